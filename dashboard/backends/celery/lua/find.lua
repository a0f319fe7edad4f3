-- Finds messages of one list that contain a text, from the end that is served next.
-- ARGV: key, offset, how many messages and how many bytes to read at most; the kind of search: 'folded' = a text,
-- case-insensitive, 'text' = a text, case-sensitive, 'stamp' = stamps of messages; then the texts or stamps, one of which
-- must match (in lower case if 'folded').
-- Returns {the list's size, the offset to continue at, bytes read, {message or its beginning, its length, its stamp if it
-- was cut, how many are ahead of it}...}.
local MOST, MOST_BYTES = 50, 262144
local key, at, kind = ARGV[1], tonumber(ARGV[2]), ARGV[5]
local size = redis.pcall('LLEN', key)
if type(size) ~= 'number' then return {0, 0, 0} end
local found, answered = {size, at, 0}, 0

local function holds(message)
  if kind == 'stamp' then
    local stamp = stamp_of(message)
    for n = 6, #ARGV do
      if stamp == ARGV[n] then return true end
    end
    return false
  end
  message = string.sub(message, 1, WHOLE)
  if kind == 'folded' then message = string.lower(message) end
  for n = 6, #ARGV do
    if string.find(message, ARGV[n], 1, true) then return true end
  end
  if kind ~= 'folded' then return false end
  -- A letter may be escaped as \u00xx. In protocol 1, the task and its arguments are in the base64 body.
  return string.find(message, '\\u00', 1, true) ~= nil
    or (string.find(message, '"correlation_id":', 1, true) ~= nil and not string.find(message, '"id":', 1, true))
end

local reached, bytes = each_member(key, 'list', false, at, at + tonumber(ARGV[3]), tonumber(ARGV[4]),
  function(message, _, place)
    if not holds(message) then return false end
    local row = {}
    add(row, message)
    row[4] = place
    found[#found + 1] = row
    answered = answered + #row[1]
    return #found - 3 >= MOST or answered > MOST_BYTES
  end)
found[2], found[3] = reached, bytes
return found
