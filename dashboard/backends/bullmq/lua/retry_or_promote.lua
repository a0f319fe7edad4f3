-- Retry jobs of `failed` or `completed`, or promote delayed ones.
-- KEYS: source set, then the hash of each job. ARGV: base, verb, name of the source set, now in ms, '1' to reset the
-- attempts, then id and stamp ('' = any) of each job. Returns an outcome per job: done, gone, changed, or the reason why
-- it was refused.
local source = KEYS[1]
local base, verb, prev, now, reset = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local why = unwritable(base)
if why then return for_each(#KEYS - 1, why) end
-- What a worker writes into a job that stalled too often, so that the next worker fails it without running it.
local STALLED = 'job stalled more than allowable limit'
local kind = generation(base)
local answers = {}

local function back_to_parent(key)
  local parent = call('HGET', key, 'parentKey')
  if not parent or call('EXISTS', parent) == 0 then return end
  local moved
  if prev == 'failed' then
    moved = call('ZREM', parent .. ':unsuccessful', key) == 1 or call('HDEL', parent .. ':failed', key) == 1
  else
    moved = call('HDEL', parent .. ':processed', key) == 1
  end
  if moved then call('SADD', parent .. ':dependencies', key) end
end

local function retry(id, key)
  call('HDEL', key, 'finishedOn', 'processedOn', prev == 'failed' and 'failedReason' or 'returnvalue')
  if reset then
    call('HDEL', key, 'atm', 'attemptsMade', 'ats', 'stc', 'stalledCounter')
    if call('HGET', key, 'defa') == STALLED then call('HDEL', key, 'defa') end
  end
  if kind == 'bull' then call('HSET', key, 'retriedOn', now) end
  enqueue(base, kind, id, priority_of(key), push_of(call('HGET', key, 'opts')), kind == 'six')
  if kind ~= 'bull' then back_to_parent(key) end
end

local function promote(id, key, priority)
  if kind == 'bull' and priority > 0 then
    call('ZADD', base .. 'priority', priority, id)
    local list = target(base, kind)
    local behind = call('ZCOUNT', base .. 'priority', 0, priority) - 1
    local at = call('LINDEX', list, call('LLEN', list) - behind)
    if behind > 0 and at then call('LINSERT', list, 'BEFORE', at, id) else call('RPUSH', list, id) end
    wake(base, kind, id)
  else
    enqueue(base, kind, id, priority, 'LPUSH', true)
  end
  call('HSET', key, 'delay', 0)
end

for n = 2, #KEYS do
  local id, stamp, key = ARGV[2 + n * 2], ARGV[3 + n * 2], KEYS[n]
  local score = call('ZSCORE', source, id)
  local answer = 'done'
  if not score then
    answer = call('EXISTS', key) == 1 and 'changed' or 'gone'
  elseif stamp ~= '' and score ~= stamp then
    answer = 'changed'
  elseif not is_hash(key) then
    answer = 'gone'
  elseif kind == 'bull' and lock_of(key) then
    answer = 'a worker is processing it'
  elseif verb == 'retry' and foreign_parent(key) then
    answer = foreign_parent(key)
  else
    local priority = priority_of(key)
    if verb == 'promote' and priority > 0 and (kind == 'three' or kind == 'old') then
      answer = 'its queue does not record its BullMQ version, so the position of a job with a priority is unknown'
    else
      call('ZREM', source, id)
      if verb == 'retry' then retry(id, key) else promote(id, key, priority) end
      event(base, kind, 'event', 'waiting', 'jobId', id, 'prev', prev)
    end
  end
  answers[n - 1] = answer
end
return answers
