-- Jobs of a queue are pushed into queues. KEYS: the list they stand in, `queues`, then lists of queues.
-- ARGV[1]: 'move', or 'copy' to leave the entry where it is; then per job: entry, its place from the served end,
-- place of its list in KEYS, the queue's name, the payload to push.
local moves = ARGV[1] == 'move'
local size = redis.call('LLEN', KEYS[1])
local refused = {}
if moves then
  -- The push comes second, and must not fail then: `queues` is a set, so an attempt there tells whether it is permitted.
  redis.call('SADD', KEYS[2], ARGV[5])
  local probe = try('LPUSH', KEYS[2], NOBODY)
  if not failed(probe) or not string.find(probe.err, 'WRONGTYPE', 1, true) then return redis.error_reply(probe.err) end
  for n = 3, #KEYS do
    local length = try('LLEN', KEYS[n])
    refused[n] = failed(length) and length.err or nil
  end
end
local outcomes = {}
for i = 2, #ARGV, 5 do
  local n = tonumber(ARGV[i + 2])
  local outcome = refused[n]
  if not outcome then
    outcome = moves and take_out(KEYS[1], ARGV[i], tonumber(ARGV[i + 1]), size) or DONE
    if outcome == DONE then outcome = push(KEYS[2], ARGV[i + 3], KEYS[n], ARGV[i + 4]) or DONE end
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
