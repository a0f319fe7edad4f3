-- Add new jobs. KEYS: id counter. ARGV: base, now in ms, then per job: name, data, opts, priority.
-- Returns an id per job, or {reason}.
local base, now = ARGV[1], ARGV[2]
local why = unwritable(base)
if why then return for_each((#ARGV - 2) / 4, {why}) end
local kind = generation(base)
local answers = {}
for n = 3, #ARGV, 4 do
  local name, data, opts, priority = ARGV[n], ARGV[n + 1], ARGV[n + 2], tonumber(ARGV[n + 3])
  if priority > 0 and (kind == 'three' or kind == 'old' or kind == 'bull') then
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
