-- Requeue jobs in `active` that no worker holds, as the library does it with stalled jobs.
-- KEYS: the hash of each job. ARGV: base, then the id of each job. Returns an outcome per job: done, gone, changed or the
-- reason why it was refused.
local base = ARGV[1]
local why = unwritable(base)
if why then return for_each(#KEYS, why) end
local kind = generation(base)
local answers = {}
for n = 1, #KEYS do
  local key, id = KEYS[n], ARGV[1 + n]
  local there = is_hash(key)
  if lock_of(key) or being_taken(kind, key) then
    answers[n] = 'a worker is processing it'
  elseif not there then
    answers[n] = call('LPOS', base .. 'active', id) and 'its data no longer exists, only its id is left: delete it' or 'gone'
  elseif call('LREM', base .. 'active', 1, id) == 0 then
    answers[n] = 'changed'
  else
    call('SREM', base .. 'stalled', id)
    enqueue(base, kind, id, priority_of(key), 'RPUSH', kind == 'six' or kind == 'five' or kind == 'four')
    event(base, kind, 'event', 'waiting', 'jobId', id, 'prev', 'active')
    answers[n] = 'done'
  end
end
return answers
