-- Pushes jobs of a sorted set into their queues. KEYS: the set, `queues`, then lists of queues.
-- ARGV[1]: 'move', or 'copy' to leave the entry where it is; then per job: entry, its score, the index of its list in
-- KEYS, the queue's name, the payload to push.
local moves = ARGV[1] == 'move'
if moves then may_remove(KEYS[1]) end
local outcomes = {}
for i = 2, #ARGV, 5 do
  local outcome = not_at(KEYS[1], ARGV[i], ARGV[i + 1])
  if not outcome then
    outcome = push(KEYS[2], ARGV[i + 3], KEYS[tonumber(ARGV[i + 2])], ARGV[i + 4]) or DONE
    if moves and outcome == DONE then redis.call('ZREM', KEYS[1], ARGV[i]) end
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
