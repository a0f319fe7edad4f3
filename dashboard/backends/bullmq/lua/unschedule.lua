-- Remove a job scheduler and its next run, where that has not started. KEYS: repeat. ARGV: base, scheduler id.
local base, id = ARGV[1], ARGV[2]
local why = foreign(base)
if why then return why end
local at = call('ZSCORE', KEYS[1], id)
if not at then return 'gone' end
if call('EXISTS', KEYS[1] .. ':' .. id) == 0 then
  return 'it is a repeatable job of an older release; only the app can remove it'
end
local run = 'repeat:' .. id .. ':' .. at
local kind = generation(base)
if call('ZREM', base .. 'delayed', run) == 1 then
  if is_hash(base .. run) then forget_duplicates(base, run, call('HGET', base .. run, 'deid')) end
  for _, part in ipairs(PARTS) do call('DEL', base .. run .. part) end
  event(base, kind, 'event', 'removed', 'jobId', run, 'prev', 'delayed')
end
call('ZREM', KEYS[1], id)
call('DEL', KEYS[1] .. ':' .. id)
return 'done'
