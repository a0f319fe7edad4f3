-- Takes messages out of their lists for good, and notes each in a sorted set, so that it can be put back once.
-- KEYS[1]: the sorted set; then per job the list. ARGV[1]: now in s; ARGV[2]: how long a note is kept, in s; then two per
-- job: the message byte for byte, the name of the note.
-- Returns per job: "done", "gone" or an error. LREM looks from the end that is served next: the caller bounds the way.
local call = redis.pcall
local notes, now, kept = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

local function drop(list, message, name)
  if call('ZSCORE', notes, name) then return 'done' end
  -- The note comes first: whoever may not write it must not delete either.
  local noted = call('ZADD', notes, now, name)
  if type(noted) == 'table' then return noted end
  local removed = call('LREM', list, -1, message)
  if removed == 1 then return 'done' end
  call('ZREM', notes, name)
  if type(removed) == 'table' and not string.find(removed.err, 'WRONGTYPE', 1, true) then return removed end
  return 'gone'
end

local kind = call('TYPE', notes)
if kind.ok ~= 'none' and kind.ok ~= 'zset' then return redis.error_reply('ERR ' .. notes .. ' is no sorted set') end
call('ZREMRANGEBYSCORE', notes, '-inf', now - kept)
local answers = {}
for job = 2, #KEYS do
  answers[job - 1] = drop(KEYS[job], ARGV[job * 2 - 1], ARGV[job * 2])
end
call('EXPIRE', notes, kept)
return answers
