-- Removes an entry of RedBeat as redbeat itself does, if it is as it was read.
-- KEYS: the sorted set of entries, the entry. ARGV: its score, then field and value of each of its fields; nothing = the
-- entry in any state. Returns "done", "gone", "changed" or an error.
local call = redis.pcall
local score = call('ZSCORE', KEYS[1], KEYS[2])
if type(score) == 'table' then return score end
if #ARGV > 0 then
  if not score then return 'gone' end
  if score ~= ARGV[1] then return 'changed' end
  local count = call('HLEN', KEYS[2])
  if type(count) == 'table' then return count end
  if count ~= (#ARGV - 1) / 2 then return 'changed' end
  for n = 2, #ARGV, 2 do
    if call('HGET', KEYS[2], ARGV[n]) ~= ARGV[n + 1] then return 'changed' end
  end
end
local removed = call('ZREM', KEYS[1], KEYS[2])
if type(removed) == 'table' then return removed end
local deleted = call('DEL', KEYS[2])
if type(deleted) == 'table' then return deleted end
return removed + deleted > 0 and 'done' or 'gone'
