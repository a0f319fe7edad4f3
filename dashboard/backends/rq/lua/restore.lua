-- Puts deleted jobs back where they were. KEYS: the list or sorted set they stood in, then the hash of each job.
-- ARGV: prefix, queue, 'list' or 'zset', then per job: id, score or '', id before it or '', ms to live or -1, four dumps,
-- how many ids it waits for follow, and those ids. Returns an outcome per job.
local call = redis.call
local into, prefix, queue, kind = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local answers, at = {}, 4
for n = 2, #KEYS do
  local id, score, before, ttl, key = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), KEYS[n]
  local parents = tonumber(ARGV[at + 8])
  local stands = kind == 'zset' and call('ZSCORE', into, id)
  if call('EXISTS', key) == 1 or stands then
    answers[n - 1] = 'changed'
  else
    local parts = {key, key .. ':dependents', prefix .. ':job::' .. id .. ':dependencies', prefix .. ':results:' .. id}
    for part = 1, 4 do
      local dump = ARGV[at + 3 + part]
      if dump ~= '' then call('RESTORE', parts[part], part == 1 and math.max(ttl, 0) or 0, dump, 'REPLACE') end
    end
    for p = 1, parents do call('SADD', prefix .. ':job:' .. ARGV[at + 8 + p] .. ':dependents', id) end
    if kind == 'zset' then
      call('ZADD', into, score, id)
    elseif before == '' or call('LINSERT', into, 'AFTER', before, id) <= 0 then
      call('LPUSH', into, id)
    end
    call('SADD', prefix .. ':queues', prefix .. ':queue:' .. queue)
    answers[n - 1] = 'done'
  end
  at = at + 9 + parents
end
return answers
