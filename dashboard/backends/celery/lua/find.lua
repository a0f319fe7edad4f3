-- Messages of one list that may be the job looked for, from the end that is served next.
-- ARGV: key, how many messages are looked at, after how many, then the texts of which one must stand in a message.
-- Returns {the list's size, {message, how many are served before it}...}: at most ten.
local CHUNK, MOST = 500, 10
local key, most, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local size = redis.pcall('LLEN', key)
if type(size) ~= 'number' then return {0} end
local found = {size}

local function holds(message)
  for n = 4, #ARGV do
    if string.find(message, ARGV[n], 1, true) then return true end
  end
  return false
end

for start = after, math.min(size, after + most) - 1, CHUNK do
  local messages = redis.call('LRANGE', key, -start - CHUNK, -start - 1)
  for n = #messages, 1, -1 do
    if holds(messages[n]) then
      found[#found + 1] = {messages[n], start + #messages - n}
      if #found > MOST then return found end
    end
  end
end
return found
