-- The soonest schedules of many queues. ARGV: maximum per queue; number of entries after which the call reads only a few
-- of each further queue; how many those are; then `<prefix>:<queue>` of each queue.
-- Returns per queue {id, ms of the next run...}, soonest first, or an error if the key has the wrong type.
local most, left, few = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ID_LIMIT = 2000
local rows = {}
for i = 4, #ARGV do
  local found = read('ZRANGE', ARGV[i] .. ':repeat', 0, (left > 0 and most or few) - 1, 'WITHSCORES')
  if not failed(found) then left = left - #found / 2 end
  rows[#rows + 1] = cut(found, ID_LIMIT)
end
return rows
