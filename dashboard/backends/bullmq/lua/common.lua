-- Shared by all reading scripts here. Every value is cut on the server.

-- Globals are looked up by name each time; these are used for every value.
local type, string_sub = type, string.sub

-- Returns `value` with each string in it cut to `limit` bytes; errors and numbers unchanged.
local function cut(value, limit)
  if type(value) == 'string' then
    if #value > limit then return string_sub(value, 1, limit) end
    return value
  end
  if type(value) == 'table' and value.err == nil then
    for i = 1, #value do
      local item = value[i]
      if item and (type(item) ~= 'string' or #item > limit) then value[i] = cut(item, limit) end
    end
  end
  return value
end

-- Returns the reply to a command; an error is returned like any other value.
local read = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

-- Returns the fields of a hash, one entry each: the value, false if missing, {length} if longer than `limit`.
local function fields(key, limit, names)
  local values = {}
  for i = 1, #names do
    local size = read('HSTRLEN', key, names[i])
    if failed(size) then return size end
    if size == 0 then
      values[i] = false
    elseif size > limit then
      values[i] = {size}
    else
      values[i] = read('HGET', key, names[i])
    end
  end
  return values
end
