-- Finds messages of one list that may belong to given jobs, from the end that is served next. ARGV: key, offset, how many
-- messages and how many bytes to read at most, how many bytes of one message; then the number of ids, the ids as written
-- in messages (see ids_of), and the stamps of messages that have no id or are long.
-- Returns {the list's size, {message or false, its length, its stamp if it is long, how many are ahead of it, ...}, the
-- offset to continue at, bytes read}.
local key, first, rows, longest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local stamps, room = {}, tonumber(ARGV[4])
local ids, wrapped = ids_of(7, 6 + tonumber(ARGV[6]))
for n = 7 + tonumber(ARGV[6]), #ARGV do stamps[ARGV[n]] = true end
local size, found, given = redis.pcall('LLEN', key), {}, 0
if type(size) ~= 'number' then return {size, found, first, 0} end

local function may_be(message)
  if #message > WHOLE then return stamps[stamp_of(message)] end
  local may = may_have(message, ids, wrapped)
  if may == nil then return stamps[stamp_of(message)] end
  return may
end

local reached, bytes = each_member(key, 'list', false, first, first + rows, room, function(message, _, place)
  if not may_be(message) then return false end
  local at = #found
  found[at + 1], found[at + 2] = #message <= longest and message, #message
  found[at + 3], found[at + 4] = #message > WHOLE and stamp_of(message), place
end, MANY_AT_ONCE)
return {size, found, reached, bytes}
