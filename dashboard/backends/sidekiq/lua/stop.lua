-- Iterable jobs that run are asked to stop. KEYS per job: the hash of its iteration. ARGV: now in whole seconds.
-- Returns per job 1, or 0 where there is no such hash: then it is no iterable job, or has not kept its place yet.
local outcomes = {}
for n = 1, #KEYS do
  outcomes[n] = redis.call('EXISTS', KEYS[n])
  if outcomes[n] == 1 then redis.call('HSETNX', KEYS[n], 'cancelled', ARGV[1]) end
end
return outcomes
