-- Add new jobs. KEYS: id counter. ARGV: base, now in ms, then per job: name, data, opts, priority, and of the job that it
-- is a copy of, the set in which it was seen ('' = not checked), id and stamp ('' = any).
-- Returns an id per job, {'changed'} if the original is no longer there, or {reason}.
local base, now = ARGV[1], ARGV[2]
local why = unwritable(base)
if why then return for_each((#ARGV - 2) / 7, {why}) end
local kind = generation(base)
local answers = {}
for n = 3, #ARGV, 7 do
  local name, data, opts, priority = ARGV[n], ARGV[n + 1], ARGV[n + 2], tonumber(ARGV[n + 3])
  local set, original, stamp = ARGV[n + 4], ARGV[n + 5], ARGV[n + 6]
  local score = set ~= '' and call('ZSCORE', base .. set, original)
  if set ~= '' and (not score or (stamp ~= '' and score ~= stamp)) then
    answers[#answers + 1] = {'changed'}
  elseif priority > 0 and (kind == 'three' or kind == 'old' or kind == 'bull') then
    answers[#answers + 1] = {'Queuedeck cannot add jobs with a priority to queues of this BullMQ or Bull version'}
  else
    local id = tostring(call('INCR', KEYS[1]))
    while call('EXISTS', base .. id) == 1 do id = tostring(call('INCR', KEYS[1])) end
    local key = base .. id
    call('HSET', key, 'name', name, 'data', data, 'opts', opts, 'timestamp', now, 'delay', 0, 'priority', priority)
    enqueue(base, kind, id, priority, push_of(opts), true)
    event(base, kind, 'event', 'added', 'jobId', id, 'name', name)
    event(base, kind, 'event', 'waiting', 'jobId', id)
    answers[#answers + 1] = id
  end
end
return answers
