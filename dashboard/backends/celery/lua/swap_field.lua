-- Changes one field of a hash if it has not changed since it was read. KEYS[1]: the hash. ARGV: field, old value, new value.
-- Returns "done", "gone", "changed" or an error.
local found = redis.pcall('HGET', KEYS[1], ARGV[1])
if not found or type(found) == 'table' then return 'gone' end
if found ~= ARGV[2] then return 'changed' end
local written = redis.pcall('HSET', KEYS[1], ARGV[1], ARGV[3])
if type(written) == 'table' then return written end
return 'done'
