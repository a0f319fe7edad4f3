-- Asks running iterable jobs to stop. KEYS per job: the hash of its iteration. ARGV: now in whole seconds.
-- Returns an outcome per job. If there is no such hash, the job is not iterable, or has not stored its progress yet.
local outcomes = {}
for n = 1, #KEYS do
  if redis.call('EXISTS', KEYS[n]) == 1 then
    redis.call('HSETNX', KEYS[n], 'cancelled', ARGV[1])
    outcomes[n] = DONE .. '|asked to stop; stops within 5 s'
  else
    outcomes[n] = 'the job is not iterable or started less than 5 s ago; only its process can end it'
  end
end
return outcomes
