-- KEYS: dead, job. ARGV: id, the score at which the job was backed up.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 'changed' end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
return 'done'
