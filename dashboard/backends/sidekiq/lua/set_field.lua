-- Sets a field of a schedule if it still has the value that was read. KEYS: the hash, the hash that must hold the schedule.
-- ARGV: field, its value as read or '', the new value, a field that the second hash must have.
if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 0 then return GONE end
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return CHANGED end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return DONE
