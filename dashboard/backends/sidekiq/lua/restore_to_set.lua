-- Restores deleted jobs of a sorted set. KEYS: the set, the deletions that can be undone. ARGV per job: score, entry,
-- token. Only a recorded deletion is undone, and only once.
may_remove(KEYS[2])
local outcomes = {}
for i = 1, #ARGV, 3 do
  local outcome = CHANGED
  if redis.call('ZSCORE', KEYS[2], ARGV[i + 2]) and not redis.call('ZSCORE', KEYS[1], ARGV[i + 1]) then
    -- In this order: a failure leaves the record of the deletion as it is.
    local added = try('ZADD', KEYS[1], 'NX', ARGV[i], ARGV[i + 1])
    if failed(added) then
      outcome = added.err
    else
      redis.call('ZREM', KEYS[2], ARGV[i + 2])
      outcome = DONE
    end
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
