-- Restore a removed schedule, with its next run.
-- KEYS: repeat. ARGV: base, schedule id, token of the removal, our sorted set of restored deletions by time, now and how
-- long these are remembered, in s; ms of the next run, dump of the schedule or '', then per run as unschedule.lua returns
-- them. Returns an outcome or why not, 'again' if this removal was already undone.
local base, id, token, back = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now, remembered, at, schedule = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]
local why = unwritable(base)
if why then return why end
local kind = generation(base)
local back_kind = redis.call('TYPE', back).ok
if back_kind ~= 'zset' and back_kind ~= 'none' then redis.pcall('DEL', back) end -- written by another program
if type(redis.pcall('ZSCORE', back, token)) == 'string' then return 'again' end
if call('ZSCORE', KEYS[1], id) or call('EXISTS', KEYS[1] .. ':' .. id) == 1 then
  return 'changed|a schedule with this name exists again'
end

-- A worker that starts a run creates the next one. If no run is left to start, the schedule never runs again.
local continues = false
for n = 9, #ARGV, 11 do
  if call('EXISTS', base .. ARGV[n]) == 1 then return 'changed|the job of its next run exists again' end
  continues = true
end
if not continues then
  local run = 'repeat:' .. id .. ':' .. at
  local where = call('EXISTS', base .. run) == 1 and stands_at(base, run)
  if (not where or where == 'failed' or where == 'completed') and not odd_run(base, id, tonumber(at)) then
    return 'its next run has started in the meantime and nothing would create the following one; the app has to add it again'
  end
end

if schedule ~= '' then call('RESTORE', KEYS[1] .. ':' .. id, 0, schedule) end
call('ZADD', KEYS[1], at, id)
for n = 9, #ARGV, 11 do
  local run, score, dedup, ttl, following = ARGV[n], ARGV[n + 1], ARGV[n + 2], tonumber(ARGV[n + 3]), ARGV[n + 4]
  for part = 1, #PARTS do
    if ARGV[n + 4 + part] ~= '' then call('RESTORE', base .. run .. PARTS[part], 0, ARGV[n + 4 + part], 'REPLACE') end
  end
  call('ZADD', base .. 'delayed', score, run)
  if (kind == 'six' or kind == 'five') and not paused(base, kind) then
    local first = call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
    call('ZADD', base .. 'marker', math.floor(tonumber(first[2]) / 4096), '1')
  end
  if dedup ~= '' and call('SETNX', dedup, run) == 1 then
    if ttl > 0 then call('PEXPIRE', dedup, ttl) end
    local held = base .. 'dn:' .. string.sub(dedup, #base + 4)
    if following ~= '' and call('EXISTS', held) == 0 then call('RESTORE', held, 0, following) end
  end
end
redis.pcall('ZADD', back, now, token)
redis.pcall('ZREMRANGEBYSCORE', back, '-inf', now - remembered)
redis.pcall('EXPIRE', back, remembered)
return 'done'
