-- Deletes a queue with all its waiting jobs. KEYS: the list, `queues`. ARGV: the queue's name.
-- Returns how many jobs were waiting, or -1 if there was no such queue. Their memory is freed in the background.
local size = redis.call('LLEN', KEYS[1])
if size > 0 then redis.call('UNLINK', KEYS[1]) end
local named = try('SREM', KEYS[2], ARGV[1])
return (size == 0 and named ~= 1) and -1 or size
