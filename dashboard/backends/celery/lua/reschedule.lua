-- Restores a removed entry of RedBeat. KEYS: the sorted set of entries, the entry. ARGV: its score, then field and value of
-- each of its fields. Returns "done", "changed" if an entry of this name exists again, or an error.
local call = redis.pcall
local score = call('ZSCORE', KEYS[1], KEYS[2])
if type(score) == 'table' then return score end
if score or call('EXISTS', KEYS[2]) == 1 then return 'changed|a schedule with this name exists again' end
for n = 2, #ARGV, 2 do
  local written = call('HSET', KEYS[2], ARGV[n], ARGV[n + 1])
  if type(written) == 'table' then return written end
end
local added = call('ZADD', KEYS[1], ARGV[1], KEYS[2])
if type(added) == 'table' then return added end
return 'done'
