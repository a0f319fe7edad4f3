-- Members of a sorted set at given scores. ARGV: key, most bytes of a member, most bytes in all, how many members of
-- one score are passed over, how many are looked at, number of scores, the scores, then the jids that are wanted.
-- Returns {score, member or false, its length, its stamp where it is long, ...}, then how many scores have more.
-- Where a score has one member it is told whatever its jid. A member is false when it is too long (-1 as length
-- stands for: no room left in this answer, ask again).
local key, longest, room, from, most, n = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6])
local wanted = {}
for i = 7 + n, #ARGV do wanted[ARGV[i]] = true end
local found, more, given = {}, 0, false

local function give(score, member)
  local at, size = #found, #member
  local fits = size <= longest and (size <= room or not given)
  found[at + 1], found[at + 2], found[at + 3] = score, fits and member, (fits or size > longest) and size or -1
  found[at + 4] = size > LIMIT and stamp_of(member)
  if fits then room, given = room - size, true end
end

for i = 7, 6 + n do
  local members = redis.call('ZRANGEBYSCORE', key, ARGV[i], ARGV[i], 'LIMIT', from, 2)
  if #members == 1 and from == '0' then
    give(ARGV[i], members[1])
  elseif #members > 0 then
    members = redis.call('ZRANGEBYSCORE', key, ARGV[i], ARGV[i], 'LIMIT', from, most)
    for m = 1, #members do
      if may_be(members[m], wanted) then give(ARGV[i], members[m]) end
    end
    if #members == tonumber(most) then more = more + 1 end
  end
end
found[#found + 1] = more
return found
