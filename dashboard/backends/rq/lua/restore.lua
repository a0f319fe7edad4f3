-- Restores deleted jobs to where they were. KEYS: the list or sorted set they were in, then the hash of each.
-- ARGV after those of writing.lua: 'list', 'zset' or 'none', '1' if scores are expiry times, the deepest position of an
-- insert into a list, how many entries one call may walk over, our sorted set of undone deletions by time, for how many
-- seconds they are remembered, then per job: id, score, position, id after it, '1' if it was enqueued ahead of the others,
-- group, token of the deletion or '', dump and ms to live of its four keys, number of parent ids, and those. Returns an
-- outcome per job, as in move.lua, 'again' if this deletion was undone before, or 'later'.
local into, kind, expiring, reach, walk = KEYS[1], ARGV[5], ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])
local back, remembered = ARGV[9], tonumber(ARGV[10])
for _, ours in ipairs({back, AWAY}) do
  local kind = call('TYPE', ours).ok
  if kind ~= 'zset' and kind ~= 'none' then try('DEL', ours) end -- written by another program under our name
end
-- 'none': the jobs were in no list, and will be in none again.
local refused = may('HSET', 'HDEL', 'RPUSH', 'ZADD') or kind ~= 'none' and wrong(into, kind)
if refused then return refused end
local walked = 0

local function since(id)
  local at = try('HGET', prefix .. ':job:' .. id, 'enqueued_at')
  return type(at) == 'string' and at
end

-- Returns the first position whose job was enqueued later than `mine`, in a queue sorted by that time.
local function place_by_time(mine)
  local low, high = 0, call('LLEN', into)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at, ahead = nil, middle
    while not at and ahead < high and ahead < middle + 5 do
      at = since(call('LINDEX', into, ahead))
      if not at then ahead = ahead + 1 end
    end
    if at and at > mine then high = middle else low = math.max(ahead, middle) + 1 end
  end
  return math.min(low, high)
end

-- Whether a job enqueued at `mine` is in order at a position.
local function fits(at, length, mine)
  local ahead, behind = at > 0 and since(call('LINDEX', into, at - 1)), at < length and since(call('LINDEX', into, at))
  return (at == 0 or ahead and ahead <= mine) and (at >= length or behind and behind > mine)
end

-- Returns the position of a job: by the time at which jobs were enqueued, which is their order. A job that was enqueued
-- ahead of the others goes before the one it preceded, if that is still waiting near the front.
local function place_of(step, mine, length)
  if step.front then
    for n, id in ipairs(call('LRANGE', into, 0, math.min(step.place, MANY) + 20)) do
      if id == step.after then return n - 1 end
    end
    return 0
  end
  if not mine then return math.min(step.place, length) end
  if step.place <= length and fits(step.place, length, mine) then return step.place end
  return place_by_time(mine)
end

-- Inserts the job into the queue. Returns an outcome with a remark, or nothing.
local function line_up(step, mine)
  local length = call('LLEN', into)
  local at = place_of(step, mine, length)
  if at == 0 then
    call('LPUSH', into, step.id)
  elseif at >= length then
    call('RPUSH', into, step.id)
  elseif at <= reach then
    walked = walked + at
    call('LINSERT', into, 'BEFORE', call('LINDEX', into, at), step.id)
  else
    call('RPUSH', into, step.id)
    return 'done|its position was too far back in a long queue to restore; it is now last'
  end
end

-- Restores the keys of a job, all or none. Returns why not, or nothing.
local function revive(step)
  local parts = {step.key, step.key .. ':dependents', prefix .. ':job::' .. step.id .. ':dependencies', prefix .. ':results:' .. step.id}
  for n, part in ipairs(parts) do
    local dump, ttl = ARGV[step.arg + 5 + n * 2], tonumber(ARGV[step.arg + 6 + n * 2])
    -- Dependents that were restored earlier are already in its set.
    local before = n == 2 and try('SMEMBERS', part) or {}
    if n == 2 then call('DEL', part) end
    local made = dump ~= '' and try('RESTORE', part, math.max(ttl, 0), dump)
    if not failed(made) and not failed(before) then
      for _, id in ipairs(before) do call('SADD', part, id) end
    end
    if failed(made) then
      for each = 1, n - 1 do
        if ARGV[step.arg + 5 + each * 2] ~= '' then call('DEL', parts[each]) end
      end
      if string.find(made.err, 'BUSYKEY', 1, true) then return 'changed|its id is already in use' end
      return made.err
    end
  end
end

-- Adds the job to the dependents of its parents that still exist. Returns whether it still waits for one, by RQ's rules:
-- a failed parent can still be retried, unless the job also runs after failures.
local function tie(step)
  local over = {finished = true}
  if try('HGET', step.key, 'allow_dependency_failures') == '1' then over.failed = true end
  local waits = false
  for n = 1, step.parents do
    local parent = prefix .. ':job:' .. ARGV[step.arg + 15 + n]
    local status = try('HGET', parent, 'status')
    if type(status) == 'string' then
      -- The job may already be in the set, from before the parent was deleted. A worker that is just finishing the parent
      -- then did not find the job and is watching the set: removing and adding it changes the set, so the worker retries.
      try('SREM', parent .. ':dependents', step.id)
      try('SADD', parent .. ':dependents', step.id)
      waits = waits or not over[status]
    elseif type(try('ZSCORE', AWAY, parent)) == 'string' then
      -- The parent is deleted and can be restored; if it is not, the set expires.
      if type(try('SADD', parent .. ':dependents', step.id)) == 'number' then
        call('EXPIRE', parent .. ':dependents', AWAY_S)
        waits = true
      end
    end
  end
  return waits
end

local function score_of(step, ttl)
  local score = tonumber(step.score)
  if not expiring or score < 0 or score > now_s then return step.score end
  return now_s + math.max(60, math.floor(ttl / 1000)) -- it expired in the trash: it gets the time to live that was left
end

local function put_back(step)
  local whole, found = ARGV[step.arg + 7] ~= '', call('TYPE', step.key).ok
  if found == 'hash' or whole and found ~= 'none' then return 'changed|its id is already in use' end
  if kind == 'zset' and try('ZSCORE', into, step.id) then return 'changed|it is already in its list' end
  if kind == 'list' and not whole and call('LPOS', into, step.id, 'MAXLEN', step.place + 1) then return 'changed|it is already in its list' end
  local why = whole and revive(step)
  if why then return why end
  local job = whole and read(step.key) or {}
  local waits = tie(step)
  if step.group ~= '' then
    try('SADD', prefix .. ':group:' .. step.group, step.id)
    try('SADD', prefix .. ':groups', step.group)
  end
  know(prefix .. ':queue:' .. queue)
  if kind == 'none' then return nil end
  if job.rate_limit_key and (kind == 'list' or job.status == 'rate_limited') then
    why = queue_for_slot(step.id, step.key, job)
    if not why then return 'done|its rate limit enqueues it when another job finishes' end
  end
  if kind == 'list' then return line_up(step, job.enqueued_at) end
  -- The event that would have enqueued it happened while it was deleted.
  if job.status == 'deferred' and step.parents > 0 and not waits then
    if not enqueue(step.id, step.key, job, job.origin or queue, parents_of(step.id) or {}) then
      return 'done|the jobs it depended on have finished; it is now enqueued'
    end
  end
  call('ZADD', into, score_of(step, tonumber(ARGV[step.arg + 8])), step.id)
end

-- A restored job may have run and been removed since; then only this record shows that it was restored.
local function again(token)
  return token ~= '' and type(try('ZSCORE', back, token)) == 'string'
end

local function once(step)
  if again(step.token) then return 'again' end
  local answer = put_back(step) or 'done'
  -- If the user may not write our key, only the job itself shows whether it was restored.
  if string.sub(answer, 1, 4) == 'done' then
    if step.token ~= '' then try('ZADD', back, now_s, step.token) end
    try('ZREM', AWAY, step.key)
  end
  return answer
end

local answers, at = {}, 11
for n = 2, #KEYS do
  local step = {
    id = ARGV[at], score = ARGV[at + 1], place = tonumber(ARGV[at + 2]), after = ARGV[at + 3], front = ARGV[at + 4] == '1',
    group = ARGV[at + 5], token = ARGV[at + 6], parents = tonumber(ARGV[at + 15]), key = KEYS[n], arg = at,
  }
  answers[n - 1] = walked > 0 and walked + step.place > walk and 'later' or once(step)
  at = at + 16 + step.parents
end
try('ZREMRANGEBYSCORE', back, '-inf', now_s - remembered)
try('EXPIRE', back, remembered)
return answers
