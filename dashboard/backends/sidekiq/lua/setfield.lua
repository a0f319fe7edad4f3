-- A field of a schedule is set where it still is as it was read. KEYS: the hash, the hash that must hold the schedule.
-- ARGV: field, its value as read or '', the new value, a field that the second hash has.
if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 0 then return GONE end
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return CHANGED end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return DONE
