-- Shared by all scripts that move jobs. `base` is `<prefix>:<queue>:`. What a queue's keys mean depends on the release
-- that its app runs, which only `meta` tells; it is looked at in the same script that moves the job.
local call = redis.call

-- 'six', 'five', 'four', 'three', 'old' (older than 6, nobody knows which) or 'bull'.
local function generation(base)
  local meta = call('HMGET', base .. 'meta', 'version', 'opts.maxLenEvents')
  local major = meta[1] and tonumber(string.match(meta[1], ':(%d+)'))
  if major then
    if major >= 6 then return 'six' end
    return ({[5] = 'five', [4] = 'four'})[major] or 'three'
  end
  return meta[2] and 'old' or 'bull'
end

local function paused(base, kind)
  if kind == 'bull' then return call('EXISTS', base .. 'meta-paused') == 1 end
  return call('HEXISTS', base .. 'meta', 'paused') == 1
end

-- The list that waiting jobs stand in: only before 6 is it another one while the queue is paused.
local function target(base, kind)
  if kind ~= 'six' and paused(base, kind) then return base .. 'paused' end
  return base .. 'wait'
end

local function event(base, kind, ...)
  if kind == 'bull' then return end
  local most = call('HGET', base .. 'meta', 'opts.maxLenEvents') or 10000
  call('XADD', base .. 'events', 'MAXLEN', '~', most, '*', ...)
end

-- Wake a worker that waits for work, as the release does it. Where nobody may start a job nobody is woken.
local function wake(base, kind, id)
  if kind == 'bull' then
    call('PUBLISH', base .. 'waiting@queuedeck', id)
    return
  end
  if kind == 'four' or kind == 'three' or paused(base, kind) then return end
  local most = tonumber(call('HGET', base .. 'meta', 'concurrency') or '')
  if most and call('LLEN', base .. 'active') >= most then return end
  call('ZADD', base .. 'marker', 0, '0')
end

-- The wake-up marker of 4.x stands in the list itself, before what is added.
local function without_marker(list)
  local head = call('LINDEX', list, 0)
  if head and string.sub(head, 1, 2) == '0:' then call('LPOP', list) end
end

local function prioritize(base, kind, id, priority)
  local score = priority * 0x100000000 + call('INCR', base .. 'pc') % 0x100000000
  call('ZADD', base .. 'prioritized', score, id)
  if kind == 'four' and not paused(base, kind) and call('LLEN', base .. 'wait') == 0 then
    call('LPUSH', base .. 'wait', '0:0')
  end
end

-- Put a job where it waits. `honest` = by its priority, if it has one.
local function enqueue(base, kind, id, priority, push, honest)
  if honest and priority > 0 then
    prioritize(base, kind, id, priority)
  else
    local list = target(base, kind)
    without_marker(list)
    call(push, list, id)
  end
  wake(base, kind, id)
end

local function priority_of(key)
  return tonumber(call('HGET', key, 'priority') or '') or 0
end

local function lock_of(key)
  return call('EXISTS', key .. ':lock') == 1
end

-- The next run of a scheduler: removing it ends the schedule without a word.
local function next_run(base, key, id)
  local scheduler = call('HGET', key, 'rjk')
  local at = scheduler and call('ZSCORE', base .. 'repeat', scheduler)
  return at and id == 'repeat:' .. scheduler .. ':' .. at
end

local function is_hash(key)
  return call('TYPE', key).ok == 'hash'
end

local PARTS = {'', ':logs', ':dependencies', ':processed', ':failed', ':unsuccessful'}

-- Tells a job from an altered one; a parent also by which of its children have ended.
local function signature(key, name)
  if name ~= 'waiting-children' then return redis.sha1hex(call('DUMP', key) or '') end
  local dumps = {}
  for n, part in ipairs({'', ':dependencies', ':processed'}) do dumps[n] = call('DUMP', key .. part) or '' end
  return redis.sha1hex(table.concat(dumps))
end
