-- Shared by all scripts here. They only read. Every value is cut before it leaves the server.

-- A global is looked up by name each time; these are used for each value.
local type, string_sub = type, string.sub

-- `value` with each text in it cut to `limit` bytes; errors and numbers as they are.
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

-- The reply to a command; an error is a value like any other.
local read = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

-- The fields of a hash, one entry each: the value, false when missing, {length} when longer than `limit`.
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
