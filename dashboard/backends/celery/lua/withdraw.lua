-- Revokes messages that a worker holds until they are due, removes the safety copy that would restore them after a
-- restart, and sends their replacements.
-- KEYS[1]: `unacked`; KEYS[2]: `unacked_index`; then per job the list for its replacement. ARGV[1]: the channel of the
-- workers' mailbox; then four per job: the delivery tag, the entry of `unacked` byte for byte, the broadcast that revokes
-- it, the replacement ("" = none).
-- Returns per job: "done", "gone", "changed", "unheard" (no worker is listening: nothing was changed) or an error.
local call = redis.pcall
local unacked, index, channel = KEYS[1], KEYS[2], ARGV[1]

local function withdraw(list, tag, entry, broadcast, message)
  local found = call('HGET', unacked, tag)
  if not found or type(found) == 'table' then return 'gone' end
  if found ~= entry then return 'changed' end
  local kind = call('TYPE', list).ok
  if message ~= '' and kind ~= 'list' and kind ~= 'none' then return redis.error_reply('WRONGTYPE of the list') end
  local heard = call('PUBLISH', channel, broadcast)
  if type(heard) == 'table' then return heard end
  if heard == 0 then return 'unheard' end
  if message ~= '' then
    local pushed = call('RPUSH', list, message)
    if type(pushed) == 'table' then return pushed end
  end
  call('HDEL', unacked, tag)
  call('ZREM', index, tag)
  return 'done'
end

local answers = {}
for job = 1, #KEYS - 2 do
  local arg = (job - 1) * 4 + 2
  answers[job] = withdraw(KEYS[job + 2], ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3])
end
return answers
