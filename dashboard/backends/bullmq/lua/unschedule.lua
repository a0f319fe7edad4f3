-- Remove a schedule, and its next run if that has not started.
-- KEYS: repeat. ARGV: base, schedule id, then possible prefixes of the ids of its runs if it is of an older release.
local base, id = ARGV[1], ARGV[2]
local why = unwritable(base)
if why then return why end
local at = call('ZSCORE', KEYS[1], id)
if not at then return 'gone' end
local kind = generation(base)
local starts = {'repeat:' .. id .. ':'}
for n = 3, #ARGV do starts[#starts + 1] = ARGV[n] end
local odd = run_of(base, id, starts)
if call('EXISTS', KEYS[1] .. ':' .. id) == 0 and #starts == 1 and not odd then
  return 'it is a repeatable job of an older release, whose runs cannot be found by its id; only the app can remove it'
end
local runs = {odd}
for _, start in ipairs(starts) do
  if start .. at ~= odd then runs[#runs + 1] = start .. at end
end
for _, run in ipairs(runs) do
  if call('ZREM', base .. 'delayed', run) == 1 then
    if is_hash(base .. run) then forget_duplicates(base, run, call('HGET', base .. run, 'deid')) end
    for _, part in ipairs(PARTS) do call('DEL', base .. run .. part) end
    event(base, kind, 'event', 'removed', 'jobId', run, 'prev', 'delayed')
  end
end
call('ZREM', KEYS[1], id)
call('DEL', KEYS[1] .. ':' .. id)
return 'done'
