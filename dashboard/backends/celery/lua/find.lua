-- Messages of one list that hold a text, from the end that is served next.
-- ARGV: key, after how many messages, how many are looked at, how many bytes are looked at, '1' = upper case is as lower
-- case, then the texts of which one must stand in a message (in lower case then).
-- Returns {the list's size, after how many to go on, {message, how many are served before it}...}.
local MOST, MOST_BYTES = 50, 262144
local key, at, fold = ARGV[1], tonumber(ARGV[2]), ARGV[5] == '1'
local size = redis.pcall('LLEN', key)
if type(size) ~= 'number' then return {0, 0} end
local stop, room = math.min(size, at + tonumber(ARGV[3])), tonumber(ARGV[4])
local found, chunk, looked, bytes, answered = {size, at}, 5, 0, 0, 0

local function holds(message)
  if fold then message = string.lower(message) end
  for n = 6, #ARGV do
    if string.find(message, ARGV[n], 1, true) then return true end
  end
  -- A letter may be written by its number.
  return fold and string.find(message, '\\u00', 1, true) ~= nil
end

while at < stop and bytes < room do
  local last = math.min(stop, at + chunk)
  local messages = redis.call('LRANGE', key, -last, -at - 1)
  for n = #messages, 1, -1 do
    looked, bytes = looked + 1, bytes + #messages[n]
    if holds(messages[n]) then
      found[#found + 1] = {messages[n], at + #messages - n}
      answered = answered + #messages[n]
      if #found - 2 >= MOST or answered > MOST_BYTES then
        found[2] = at + #messages - n + 1
        return found
      end
    end
  end
  at = last
  -- Few calls where messages are short, few bytes at once where they are long.
  chunk = math.max(5, math.min(chunk * 4, 500, math.floor(room / 4 * looked / math.max(1, bytes))))
end
found[2] = at
return found
