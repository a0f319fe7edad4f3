-- A live process is asked to do something at its next beat. KEYS: its signals, `processes`.
-- ARGV: identity, signal, the key of its record, which is only read: a key of KEYS must be one that the user may change.
-- Returns 'asked', 'gone' or 'embedded'.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return 'gone' end
local info = redis.call('HGET', ARGV[3], 'info')
if not info then return 'gone' end
local fine, known = pcall(cjson.decode, info)
if fine and type(known) == 'table' and known.embedded == true then return 'embedded' end
redis.call('LPUSH', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 60)
return 'asked'
