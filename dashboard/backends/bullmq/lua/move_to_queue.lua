-- Move waiting jobs with all their data to another queue, where they wait again.
-- KEYS: the hash of each job. ARGV: base, base of the other queue, how far a list is searched, then the id of each job.
-- Returns per job {new id}, or an outcome (gone, changed; far = a list is longer than the search), or the reason why it
-- was refused.
local base, to, far = ARGV[1], ARGV[2], tonumber(ARGV[3])
local kind, its = generation(base), generation(to)
local answers = {}

-- Why no job can be moved between the two queues; nil if they can.
local function unfit()
  local why = unwritable(base) or unwritable(to)
  if why then return unwritable(base) and why or (string.gsub(why, 'this queue', 'the other queue')) end
  if base == to then return 'it is already in that queue' end
  if call('EXISTS', to .. 'meta') == 0 and call('EXISTS', to .. 'id') == 0 then return 'no queue has that name' end
  if (kind == 'bull') ~= (its == 'bull') then return 'one of the two queues belongs to Bull, the other to BullMQ' end
end

local function place(id)
  if call('ZSCORE', base .. 'prioritized', id) then return 'prioritized' end
  for _, name in ipairs({'wait', 'paused'}) do
    if call('TYPE', base .. name).ok == 'list' and call('LPOS', base .. name, id, 'RANK', -1, 'MAXLEN', far) then
      return name
    end
  end
end

-- Why a job cannot leave its queue; nil if it can.
local function tie(id, key, priority)
  if lock_of(key) then return 'a worker is processing it' end
  if call('HEXISTS', key, 'rjk') == 1 or string.sub(id, 1, 7) == 'repeat:' then return 'it belongs to a schedule of its queue' end
  if call('HEXISTS', key, 'parentKey') == 1 then return 'its parent refers to it by its queue' end
  for n = 3, #PARTS do
    if call('EXISTS', key .. PARTS[n]) == 1 then return 'its children refer to it by its queue' end
  end
  if priority > 0 and (its == 'three' or its == 'old' or its == 'bull') then
    return 'the BullMQ version of the other queue is unknown or too old to place a job with a priority'
  end
end

-- A number was assigned by the queue and is replaced; an id that the app chose is kept.
local function renamed(id)
  if not string.match(id, '^%d+$') then return id end
  local new
  repeat new = string.format('%.0f', call('INCR', to .. 'id')) until call('EXISTS', to .. new) == 0
  return new
end

local function shift(id, key, name)
  local priority, deid = priority_of(key), call('HGET', key, 'deid')
  local held = deid and base .. 'de:' .. deid
  if held and call('GET', held) ~= id then held = nil end
  if held and call('EXISTS', to .. 'de:' .. deid) == 1 then return 'the other queue has a job with this deduplication id' end
  local why = tie(id, key, priority)
  if why then return why end
  local new = renamed(id)
  if call('EXISTS', to .. new) == 1 then return 'the other queue already has a job with this id' end
  call('RENAME', key, to .. new) -- first: if the server refuses, nothing has changed yet
  if name == 'prioritized' then call('ZREM', base .. name, id) else call('LREM', base .. name, -1, id) end
  if kind == 'bull' then call('ZREM', base .. 'priority', id) end
  if call('EXISTS', key .. ':logs') == 1 then call('RENAME', key .. ':logs', to .. new .. ':logs') end
  if held then
    local left = call('PTTL', held)
    call('DEL', held)
    if left > 0 then call('SET', to .. 'de:' .. deid, new, 'PX', left) else call('SET', to .. 'de:' .. deid, new) end
    if call('EXISTS', base .. 'dn:' .. deid) == 1 then call('RENAME', base .. 'dn:' .. deid, to .. 'dn:' .. deid) end
  end
  event(base, kind, 'event', 'removed', 'jobId', id, 'prev', name)
  event(to, its, 'event', 'added', 'jobId', new, 'name', call('HGET', to .. new, 'name') or '')
  enqueue(to, its, new, priority, push_of(call('HGET', to .. new, 'opts')), true)
  event(to, its, 'event', 'waiting', 'jobId', new)
  return {new}
end

local why = unfit()
local longest = 0
for _, name in ipairs({'wait', 'paused'}) do
  if call('TYPE', base .. name).ok == 'list' then longest = math.max(longest, call('LLEN', base .. name)) end
end
for n = 1, #KEYS do
  local key, id = KEYS[n], ARGV[3 + n]
  local name = place(id)
  if not is_hash(key) then
    answers[n] = 'gone'
  elseif not name then
    answers[n] = longest > far and 'far' or 'changed'
  else
    answers[n] = why or shift(id, key, name)
  end
end
return answers
