-- Finds entries in one range of a queue. ARGV: key, most bytes of an entry, most bytes in all, first position (0 = next
-- to run), how many positions, how many bytes to read, then the wanted jids.
-- Returns {position, entry or false, its length, its stamp if it is long, ...} as locate_in_set.lua, then after how many
-- positions to continue, and the queue's length.
local key, longest, room, from, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local wanted = {}
for i = 7, #ARGV do wanted[ARGV[i]] = true end
local found, given = {}, false
local size = redis.call('LLEN', key)
local reached = each_member(key, 'list', false, from, from + most, tonumber(ARGV[6]), function(text, _, place)
  if not may_be(text, wanted) then return false end
  local at, length = #found, #text
  local fits = length <= longest and (length <= room or not given)
  found[at + 1], found[at + 2] = place, fits and text
  found[at + 3] = (fits or length > longest) and length or -1
  found[at + 4] = length > LIMIT and stamp_of(text)
  if fits then room, given = room - length, true end
end, MANY_AT_ONCE)
found[#found + 1], found[#found + 2] = reached, size
return found
