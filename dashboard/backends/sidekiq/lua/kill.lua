-- Moves jobs of a sorted set to the dead set, unchanged. KEYS: the set, `dead`. ARGV: now, the size limit of the dead set;
-- then per job: entry, its score. The oldest are dropped as Sidekiq does it, unless there were more already: then the app
-- has its own limit, which only its processes know. Returns the outcomes, with a remark if some were dropped.
may_remove(KEYS[1])
local most = tonumber(ARGV[2])
local bounded = redis.call('ZCARD', KEYS[2]) < most
local outcomes = {}
for i = 3, #ARGV, 2 do
  local outcome = not_at(KEYS[1], ARGV[i], ARGV[i + 1])
  if not outcome then
    local added = try('ZADD', KEYS[2], ARGV[1], ARGV[i])
    outcome = failed(added) and added.err or DONE
    if outcome == DONE then redis.call('ZREM', KEYS[1], ARGV[i]) end
  end
  outcomes[#outcomes + 1] = outcome
end
local dropped = 0
if bounded and redis.call('ZCARD', KEYS[2]) >= most then
  local cut = try('ZREMRANGEBYRANK', KEYS[2], 0, -most)
  dropped = failed(cut) and 0 or cut
end
for n = 1, dropped > 0 and #outcomes or 0 do
  if outcomes[n] == DONE then outcomes[n] = DONE .. '|the dead set was full; oldest jobs dropped: ' .. dropped end
end
return outcomes
