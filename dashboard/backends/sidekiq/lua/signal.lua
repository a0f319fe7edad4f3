-- A live process is asked to do something at its next beat. KEYS: its signals, its record, `processes`.
-- ARGV: identity, signal. Returns 'asked', 'gone' or 'embedded'.
if redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 0 then return 'gone' end
local info = redis.call('HGET', KEYS[2], 'info')
if not info then return 'gone' end
local fine, known = pcall(cjson.decode, info)
if fine and type(known) == 'table' and known.embedded == true then return 'embedded' end
redis.call('LPUSH', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 60)
return 'asked'
