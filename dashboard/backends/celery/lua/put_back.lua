-- Restores deleted messages, each only once: it requires the note of the deletion, and removes it.
-- KEYS[1]: the sorted set of notes; then per job the list. ARGV[1]: lists longer than this are not searched for the old
-- position; then three per job: the message, the name of its note, how many were ahead of it.
-- Returns per job: "done", "changed" or an error.
local call = redis.pcall
local notes, longest = KEYS[1], tonumber(ARGV[1])

local function put(list, message, name, before)
  local kind = call('TYPE', list).ok
  if kind ~= 'list' and kind ~= 'none' then return 'changed' end
  if call('ZREM', notes, name) ~= 1 then return 'changed' end
  local length, placed = call('LLEN', list), nil
  if before >= length and length > 0 then
    placed = call('LPUSH', list, message)
  elseif before > 0 and length > 0 and length <= longest then
    placed = call('LINSERT', list, 'BEFORE', call('LINDEX', list, -before), message)
  else
    placed = call('RPUSH', list, message)
  end
  return type(placed) == 'table' and placed or 'done'
end

local answers = {}
for job = 2, #KEYS do
  local arg = (job - 2) * 3 + 2
  answers[job - 1] = put(KEYS[job], ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2]))
end
return answers
