-- Deletes messages from their lists, and adds a note for each to a sorted set, so that it can be restored once.
-- KEYS[1]: the sorted set; then per job the list. ARGV[1]: now in s; ARGV[2]: how long a note is kept, in s; then three per
-- job: the message byte for byte, the name of the note, its position from the end that is served next (0 = next).
-- Returns per job: "done", "lost" (not found near that position) or an error.
local notes, now, kept = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

local function drop(list, message, name, seen)
  if call('ZSCORE', notes, name) then return 'done' end
  -- The note comes first: a user without permission to write it must not delete either.
  local noted = call('ZADD', notes, now, name)
  if failed(noted) then return noted end
  local at, why = mark(list, message, seen)
  if at then return 'done' end
  call('ZREM', notes, name)
  return why or 'lost'
end

local kind = call('TYPE', notes)
if kind.ok ~= 'none' and kind.ok ~= 'zset' then -- written by another program under our name
  local removed = call('DEL', notes)
  if failed(removed) then return removed end
end
call('ZREMRANGEBYSCORE', notes, '-inf', now - kept)
local refused = may_remove(notes)
if refused then return refused end
local answers = {}
for job = 2, #KEYS do
  local arg = job * 3 - 3
  answers[job - 1] = drop(KEYS[job], ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2]))
end
sweep()
call('EXPIRE', notes, kept)
return answers
