-- Pushes jobs of a queue into queues. KEYS: the list they are in, `queues`, then lists of queues.
-- ARGV[1]: 'move', or 'copy' to leave the entry where it is; ARGV[2]: how many jobs nearer to the served end earlier calls
-- removed; then per job, nearest to the served end first: entry, its position from there as it was found, the index of
-- its list in KEYS, the queue's name, the payload to push.
local refused, outcomes, jobs, of = {}, {}, {}, {}
local before = tonumber(ARGV[2])
local moves = ARGV[1] == 'move'
if moves then
  -- The push comes second and must not fail then: `queues` is a set, so the error of LPUSH on it shows if it is permitted.
  redis.call('SADD', KEYS[2], ARGV[6])
  local probe = try('LPUSH', KEYS[2], TOMBSTONE)
  if not failed(probe) or not string.find(probe.err, 'WRONGTYPE', 1, true) then return redis.error_reply(probe.err) end
end
for n = 3, #KEYS do
  local length = try('LLEN', KEYS[n])
  refused[n] = failed(length) and length.err or nil
end
for i = 3, #ARGV, 5 do
  local n = #outcomes + 1
  outcomes[n] = refused[tonumber(ARGV[i + 2])] or DONE
  if moves and outcomes[n] == DONE then
    jobs[#jobs + 1] = {text = ARGV[i], place = tonumber(ARGV[i + 1]) - before}
    of[#jobs] = n
  end
end
for j, outcome in ipairs(take_out(KEYS[1], jobs)) do outcomes[of[j]] = outcome end
for n = 1, #outcomes do
  local i = n * 5 - 2
  if outcomes[n] == DONE then
    outcomes[n] = push(KEYS[2], ARGV[i + 3], KEYS[tonumber(ARGV[i + 2])], ARGV[i + 4]) or DONE
  end
end
return outcomes
