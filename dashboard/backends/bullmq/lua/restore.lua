-- Restore deleted jobs to where they were.
-- KEYS: the hash of each job. ARGV: base, maximum list entries to walk per call, our sorted set of restored deletions by
-- time, now and how long these are remembered, in s; then per job: id, list, stamp ('' for a list), id before it or '',
-- dedup key or '', its ms to live, dump of the job held back until it finishes or '', parent key or '', '1' if the parent
-- waited for it, token of the deletion or '', six dumps. A list '' = it was in none. Returns an outcome per job, 'again'
-- if this deletion was already undone, or 'later' if the call has already walked its maximum of entries.
local base, walk = ARGV[1], tonumber(ARGV[2])
local why = unwritable(base)
if why then return for_each(#KEYS, why) end
local walked = 0
local kind = generation(base)
local answers = {}
local back, now, remembered = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local back_kind = redis.call('TYPE', back).ok
if back_kind ~= 'zset' and back_kind ~= 'none' then redis.pcall('DEL', back) end -- written by another program

-- A job may have run and been removed since it was restored: then only this shows that it was.
local function again(token)
  if token == '' then return false end
  local at = redis.pcall('ZSCORE', back, token)
  return type(at) == 'string'
end

-- If the user may not write our key, only the job itself shows whether it was restored.
local function note(token)
  if token ~= '' then redis.pcall('ZADD', back, now, token) end
end

local function stands(id)
  for _, name in ipairs({'failed', 'completed', 'delayed', 'prioritized', 'waiting-children'}) do
    if call('ZSCORE', base .. name, id) then return true end
  end
  return false
end

local function put(id, name, stamp, before)
  if name == '' then return end
  if name == 'active' then
    call('LPUSH', base .. name, id)
    return
  end
  if stamp ~= '' then
    call('ZADD', base .. name, stamp, id)
    if name == 'delayed' and (kind == 'six' or kind == 'five') and not paused(base, kind) then
      local first = call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
      call('ZADD', base .. 'marker', math.floor(tonumber(first[2]) / 4096), '1')
    end
    if name == 'prioritized' then wake(base, kind, id) end
    return
  end
  -- Behind the job that would have run before it; if that one has already run, it is next.
  local list = target(base, kind)
  if before ~= '' and call('LINDEX', list, 0) == before then
    call('LPUSH', list, id)
  else
    -- A list too long for one call is not searched: the job is next, too.
    local length = before == '' and 0 or call('LLEN', list)
    walked = walked + length
    if length == 0 or length > walk or call('LINSERT', list, 'BEFORE', before, id) <= 0 then call('RPUSH', list, id) end
  end
  wake(base, kind, id)
end

local function completed(child)
  for _, each in ipairs(divisions(child)) do
    if type(redis.pcall('ZSCORE', each[1] .. 'completed', each[2])) == 'string' then return true end
  end
  return false
end

-- Children of a deleted parent may have finished without notifying it. Returns whether it still waits for one.
local function waits_on(key)
  local own = key .. ':dependencies'
  for _, child in ipairs(call('SMEMBERS', own)) do
    local there = redis.pcall('EXISTS', child) -- an error if it is on another node of a cluster
    if there == 0 then
      call('SREM', own, child)
    elseif there == 1 and completed(child) then
      call('SREM', own, child)
      call('HSET', key .. ':processed', child, call('HGET', child, 'returnvalue') or 'null')
    end
  end
  return call('EXISTS', own) == 1
end

for n = 1, #KEYS do
  local key, at = KEYS[n], n * 16 - 10
  local id = ARGV[at]
  if walked >= walk then
    answers[n] = 'later'
  elseif again(ARGV[at + 9]) then
    answers[n] = 'again'
  elseif call('EXISTS', key) == 1 or stands(id) then
    answers[n] = 'changed'
  else
    for part = 1, #PARTS do
      local dump = ARGV[at + 9 + part]
      if dump ~= '' then call('RESTORE', key .. PARTS[part], 0, dump, 'REPLACE') end
    end
    local name = ARGV[at + 1]
    walked = walked + (name == 'waiting-children' and call('SCARD', key .. ':dependencies') or 0)
    -- An id without a job is only restored as an id: if enqueued, a worker would run it as a job without a name.
    if name == 'waiting-children' and is_hash(key) and not waits_on(key) then
      enqueue(base, kind, id, priority_of(key), 'RPUSH', kind == 'six' or kind == 'five' or kind == 'four')
      event(base, kind, 'event', 'waiting', 'jobId', id, 'prev', 'waiting-children')
    else
      put(id, name, ARGV[at + 2], ARGV[at + 3])
    end
    local dedup, ttl = ARGV[at + 4], tonumber(ARGV[at + 5])
    if dedup ~= '' and call('SETNX', dedup, id) == 1 then
      if ttl > 0 then call('PEXPIRE', dedup, ttl) end
      local following = base .. 'dn:' .. string.sub(dedup, #base + 4)
      if ARGV[at + 6] ~= '' and call('EXISTS', following) == 0 then call('RESTORE', following, 0, ARGV[at + 6]) end
    end
    if ARGV[at + 7] ~= '' and ARGV[at + 8] == '1' then
      local parent, its, pid = parent_of(key)
      if its and not elsewhere_in_cluster(parent) and not unwritable(its) and call('ZSCORE', its .. 'waiting-children', pid) then
        call('SADD', parent .. ':dependencies', key)
      end
    end
    note(ARGV[at + 9])
    answers[n] = 'done'
  end
end
redis.pcall('ZREMRANGEBYSCORE', back, '-inf', now - remembered)
redis.pcall('EXPIRE', back, remembered)
return answers
