-- Delete jobs that did not change since their backup.
-- KEYS: the hash of each job. ARGV: base, then per job: id, list, stamp ('' for a list), position in a list (1 = next to
-- run), signature ('' = any); next to run first. A list '' = the job is in none. Returns an outcome per job: done, gone,
-- changed, the reason why it was refused, or 'lost': not at its previous position in the list.
local base = ARGV[1]
local why = unwritable(base)
if why then return for_each(#KEYS, why) end
local kind = generation(base)
local answers = {}

-- Raises an error if the user lacks a permission for what follows, before anything changes: each command is tried on a
-- key of the wrong type, so it fails with a type error if it is permitted.
local function may(...)
  for _, command in ipairs({...}) do
    local reply = redis.pcall(unpack(command))
    local why = type(reply) == 'table' and reply.err
    if why and not string.find(why, 'WRONGTYPE', 1, true) and not string.find(why, 'no such key', 1, true) then
      error(why, 0)
    end
  end
end
-- This comes first: if memory is short, a script that has started to write can continue.
call('DEL', base .. '\0queuedeck')
local meta = base .. 'meta'
may({'ZREM', meta, 'x'}, {'LREM', meta, 1, 'x'}, {'LSET', meta, 0, 'x'})
if kind ~= 'bull' then may({'XADD', meta, '*', 'x', 'x'}) end

-- Removes jobs from a list in one go and marks them as `out`: {id, its previous position from the end}, nearest first.
-- Workers that take jobs from the end shift all of them equally; a search nearby finds how far. Removed entries are
-- overwritten first, so that one walk from the nearer end removes them.
local AROUND, LOOKS, TOMBSTONE = 150, 5, '\0taken out by queuedeck\0'
local function take_out(list, jobs)
  if call('TYPE', list).ok ~= 'list' then return end
  local length, drift, looks, near, far = call('LLEN', list), 0, LOOKS, 0, 0
  for _, job in ipairs(jobs) do
    local at = job.at - drift
    local found = at >= 1 and call('LINDEX', list, -at) == job.id
    if job.at >= 1 and not found and looks > 0 then
      looks = looks - 1
      local nearest = math.max(1, at - AROUND)
      local ids = call('LRANGE', list, -math.max(nearest, at + AROUND), -nearest)
      for n, id in ipairs(ids) do
        if id == job.id then
          at, found = nearest + #ids - n, true
          drift, looks = job.at - at, LOOKS
          break
        end
      end
    end
    if found then
      job.out = true
      call('LSET', list, -at, TOMBSTONE)
      if at <= length / 2 then near = near + 1 else far = far + 1 end
    end
  end
  if near > 0 then call('LREM', list, -near, TOMBSTONE) end
  if far > 0 then call('LREM', list, far, TOMBSTONE) end
end

-- A job can be in its queue twice. The remaining entry would run as a job without a name or data. At most WALK list
-- entries are walked in total.
local WALK, walked = 200000, 0
local function elsewhere(id)
  for _, name in ipairs({'failed', 'completed', 'delayed', 'prioritized', 'waiting-children'}) do
    call('ZREM', base .. name, id)
  end
  for _, name in ipairs({'wait', 'paused'}) do
    local length = call('LLEN', base .. name)
    walked = walked + length
    if length > 0 and walked <= WALK then call('LREM', base .. name, 0, id) end
  end
end

local function finish(job)
  if job.name ~= '' then elsewhere(job.id) end
  if job.there then release(job.key) end
  if job.there then forget_duplicates(base, job.id, call('HGET', job.key, 'deid')) end
  if kind == 'bull' then call('ZREM', base .. 'priority', job.id) end
  local parts = {}
  for n, part in ipairs(PARTS) do parts[n] = job.key .. part end
  call('DEL', unpack(parts))
  event(base, kind, 'event', 'removed', 'jobId', job.id, 'prev', job.name ~= '' and job.name or 'unknown')
  return 'done'
end

local lists, ready = {}, {}
for n = 1, #KEYS do
  local key, arg = KEYS[n], n * 5 - 3
  local id, name, stamp, seen = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 4]
  local there = is_hash(key)
  local job = {id = id, key = key, name = name, there = there, at = tonumber(ARGV[arg + 3]), n = n}
  if lock_of(key) or name == 'active' and being_taken(kind, key) then
    answers[n] = 'a worker is processing it'
  elseif there and next_run(base, key, id) then
    answers[n] = 'it is the next run of a schedule; remove the schedule instead'
  elseif there and foreign_parent(key) then
    answers[n] = foreign_parent(key)
  elseif seen ~= '' and signature(key, name) ~= seen then
    answers[n] = there and 'changed' or 'gone'
  elseif name == '' then
    answers[n] = stands_at(base, id) and 'changed' or finish(job)
  elseif stamp == '' then
    answers[n] = 'lost'
    if not ready[name] then
      ready[name] = {}
      lists[#lists + 1] = name
    end
    table.insert(ready[name], job)
  elseif call('ZSCORE', base .. name, id) ~= stamp then
    answers[n] = there and 'changed' or 'gone'
  else
    call('ZREM', base .. name, id)
    answers[n] = finish(job)
  end
end
for _, name in ipairs(lists) do take_out(base .. name, ready[name]) end
for _, name in ipairs(lists) do
  for _, job in ipairs(ready[name]) do
    if job.out then answers[job.n] = finish(job) end
  end
end
return answers
