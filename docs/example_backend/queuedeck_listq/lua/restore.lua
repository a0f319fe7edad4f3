-- KEYS: dead, job. ARGV: id, score, the job as DUMP returned it.
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'changed' end
redis.call('RESTORE', KEYS[2], 0, ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 'done'
