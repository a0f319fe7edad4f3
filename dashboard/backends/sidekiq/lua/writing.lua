-- Shared by all scripts that move jobs. Commands that can fail because of permissions, a wrong type or memory are tried
-- before a job is removed from its list or set, so that no job is ever lost halfway. Outcomes per job, in order, or the text
-- of the error for which it was refused:
local DONE, GONE, CHANGED = 'done', 'gone', 'changed'
local LIMIT = 65536
-- How many bytes of other jobs one call reads to find its own, or moves to make room.
local OTHERS_BYTES = 8388608
local TOMBSTONE = '\0queuedeck'
-- Deletions are recorded for as long as the trash can hold the deleted jobs.
local REMEMBER_S = 90000
local try = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

-- Raises an error if members may not be removed from this set.
local function may_remove(key)
  redis.call('ZREM', key, TOMBSTONE)
end

-- nil if `member` is in the set at `score`; else the outcome.
local function not_at(key, member, score)
  local found = redis.call('ZSCORE', key, member)
  if not found then return GONE end
  if tonumber(found) ~= tonumber(score) then return CHANGED end
  return nil
end

-- Raises an error if deletions may not be recorded; removes some records that are too old.
local function may_remember(marks, now)
  local kind = redis.call('TYPE', marks).ok
  if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', marks) end -- from another program, under our name
  redis.call('ZADD', marks, now, TOMBSTONE)
  redis.call('ZREM', marks, TOMBSTONE)
  local old = redis.call('ZRANGEBYSCORE', marks, '-inf', now - REMEMBER_S, 'LIMIT', 0, 500)
  if #old > 0 then redis.call('ZREM', marks, unpack(old)) end
end

local function remember(marks, now, token)
  redis.call('ZADD', marks, now, token)
  try('EXPIRE', marks, REMEMBER_S)
end

-- An entry of a list is identified by its bytes and by its position from the served end (the one that workers fetch from),
-- which changes in the meantime. NEAR: how many positions around the expected one are checked. FAR: how many to find out
-- how far the queue has moved.
local NEAR, FAR = 10, 800
local ENDS = {tail = '\0queuedeck tail', head = '\0queuedeck head'}

-- The index of a position, from the nearer end.
local function index(place, size)
  if place < size - place then return -place - 1 end
  return size - place - 1
end

-- The position of `text` near an expected one; nil if it is not there.
local function find_near(key, text, place, size, far)
  if place >= 0 and place < size and redis.call('LINDEX', key, index(place, size)) == text then return place end
  local nearest, furthest = math.max(0, place - far), math.min(size - 1, place + NEAR)
  if nearest > furthest then return nil end
  local at
  each_member(key, 'list', false, nearest, furthest + 1, OTHERS_BYTES, function(other, _, there)
    if other == text then at = there end
  end, MANY_AT_ONCE)
  return at
end

-- How far the queue has moved, judged by the jobs that are most likely still there.
local function moved_by(key, jobs, size)
  for n = #jobs, math.max(1, #jobs - 1), -1 do
    local place = find_near(key, jobs[n].text, jobs[n].place, size, FAR)
    if place then return jobs[n].place - place end
  end
  return 0
end

-- Removes entries from a list in one pass from each end: overwrites each with a mark, then removes all marks.
-- `jobs`: {text, place}. Returns an outcome per job; if the server refuses a step, nothing is changed.
local function take_out(key, jobs)
  local size = redis.call('LLEN', key)
  local moved = moved_by(key, jobs, size)
  local outcomes, found_jobs, marked = {}, {}, {tail = 0, head = 0}
  for n, job in ipairs(jobs) do
    local expected = job.place - moved
    local place = find_near(key, job.text, expected, size, NEAR)
    -- Jobs leave the queue only at its served end.
    outcomes[n] = place and DONE or (expected <= FAR and GONE or CHANGED)
    if place then
      local side = place < size - place and 'tail' or 'head'
      local set = try('LSET', key, index(place, size), ENDS[side])
      if failed(set) then
        outcomes[n] = set.err
      else
        marked[side] = marked[side] + 1
        found_jobs[#found_jobs + 1] = {place = place, job = job, n = n}
      end
    end
  end
  local removed = marked.tail == 0 or try('LREM', key, -marked.tail, ENDS.tail)
  if not failed(removed) and marked.head > 0 then removed = try('LREM', key, marked.head, ENDS.head) end
  if failed(removed) then
    for _, found in ipairs(found_jobs) do
      redis.call('LSET', key, index(found.place, size), found.job.text)
      outcomes[found.n] = removed.err
    end
  end
  return outcomes
end

-- Pushes a payload into its queue. Returns nil, or the text of the error because of which nothing was done.
local named = {}
local function push(queues, name, list, payload)
  local pushed = try('LPUSH', list, payload)
  if failed(pushed) then return pushed.err end
  if not named[list] then
    named[list] = true
    try('SADD', queues, name)
  end
  return nil
end
