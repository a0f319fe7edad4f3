-- Finds members of a sorted set at given scores. ARGV: key, most bytes of a member, most bytes in all, how many members of
-- one score to skip, how many to scan, how many bytes to read, number of scores, the scores, then the wanted jids.
-- Returns {score, member or false, its length, its stamp if it is long, ...}, then how many scores have more members.
-- The only member of a score is returned whatever its jid. A member is false if it is too long (a length of -1 means: no
-- room left in this reply, ask again).
local key, longest, room, from, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local unread, n = tonumber(ARGV[6]), tonumber(ARGV[7])
local wanted = {}
for i = 8 + n, #ARGV do wanted[ARGV[i]] = true end
local found, more, given = {}, 0, false

local function give(score, member)
  local at, size = #found, #member
  local fits = size <= longest and (size <= room or not given)
  found[at + 1], found[at + 2], found[at + 3] = score, fits and member, (fits or size > longest) and size or -1
  found[at + 4] = size > LIMIT and stamp_of(member)
  if fits then room, given = room - size, true end
end

for i = 8, 7 + n do
  local score = ARGV[i]
  local size = redis.call('ZCOUNT', key, score, score)
  if size > from then
    local first, alone = redis.call('ZCOUNT', key, '-inf', '(' .. score) + from, size == 1
    local stop = first + math.min(size - from, most)
    local reached, bytes = each_member(key, 'zset', false, first, stop, unread, function(member)
      if alone or may_be(member, wanted) then give(score, member) end
    end)
    unread = unread - bytes
    if reached < stop then
      local at = #found
      found[at + 1], found[at + 2], found[at + 3], found[at + 4] = score, false, -1, false
    end
    if size - from >= most then more = more + 1 end
  end
end
found[#found + 1] = more
return found
