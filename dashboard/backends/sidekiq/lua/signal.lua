-- Sends a signal to a live process, which handles it at its next heartbeat. KEYS: its signals, `processes`.
-- ARGV: identity, signal, the key of its record. This key is only read, and KEYS need permission to write.
-- Returns the outcome, or why the process ignores signals.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return GONE end
local info = redis.call('HGET', ARGV[3], 'info')
if not info then return GONE end
local fine, known = pcall(cjson.decode, info)
if fine and type(known) == 'table' and known.embedded == true then
  return 'the worker is embedded in another process and ignores signals'
end
redis.call('LPUSH', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 60)
return DONE .. '|signal sent; takes effect at the next heartbeat, in 5 to 20 s'
