-- KEYS: dead, job, wait. ARGV: id, the score that was seen, or '' for any.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score then return 'gone' end
if ARGV[2] ~= '' and score ~= ARGV[2] then return 'changed' end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], 'started_at', 'finished_at', 'error', 'stack')
redis.call('LPUSH', KEYS[3], ARGV[1])
return 'done'
