-- Pushes one run of a schedule. KEYS: its record, the queue's list, `queues`. ARGV: the message as it was read, the
-- queue's name, the payload.
if redis.call('EXISTS', KEYS[1]) == 0 then return GONE end
if redis.call('HGET', KEYS[1], 'message') ~= ARGV[1] then return CHANGED end
return push(KEYS[3], ARGV[2], KEYS[2], ARGV[3]) or DONE
