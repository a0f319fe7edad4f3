-- Asks running iterable jobs to stop. KEYS per job: the hash of its iteration. ARGV: now in whole seconds.
-- Returns per job 1, or 0 if there is no such hash: the job is not iterable, or has not stored its progress yet.
local outcomes = {}
for n = 1, #KEYS do
  outcomes[n] = redis.call('EXISTS', KEYS[n])
  if outcomes[n] == 1 then redis.call('HSETNX', KEYS[n], 'cancelled', ARGV[1]) end
end
return outcomes
