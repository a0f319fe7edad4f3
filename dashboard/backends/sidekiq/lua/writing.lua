-- Shared by all scripts that move jobs. What could fail for want of permission, for a wrong type or for memory is tried
-- before a job is taken out of where it stands, so that none is ever lost half way. Outcomes per job, in order:
local DONE, GONE, CHANGED = 1, 0, 2 -- or the text of the error for which it was refused
local LIMIT = 65536
-- So many bytes of other jobs one call looks at to find its own, or moves to make room.
local OTHERS_BYTES = 8388608
local NOBODY = '\0queuedeck'
-- Deletions are remembered as long as the bin may hold what was deleted.
local REMEMBER_S = 90000
local try = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

-- Raises where members may not be taken out of this set.
local function may_remove(key)
  redis.call('ZREM', key, NOBODY)
end

-- nil when `member` stands in the set at `score`; else the outcome.
local function not_at(key, member, score)
  local found = redis.call('ZSCORE', key, member)
  if not found then return GONE end
  if tonumber(found) ~= tonumber(score) then return CHANGED end
  return nil
end

-- Raises where deletions may not be remembered; forgets some that are too old.
local function may_remember(marks, now)
  local kind = redis.call('TYPE', marks).ok
  if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', marks) end -- another program's, under our name
  redis.call('ZADD', marks, now, NOBODY)
  redis.call('ZREM', marks, NOBODY)
  local old = redis.call('ZRANGEBYSCORE', marks, '-inf', now - REMEMBER_S, 'LIMIT', 0, 500)
  if #old > 0 then redis.call('ZREM', marks, unpack(old)) end
end

local function remember(marks, now, token)
  redis.call('ZADD', marks, now, token)
  try('EXPIRE', marks, REMEMBER_S)
end

-- An entry of a list is told by its place from the served end, which moves on meanwhile, and by its bytes. So many places
-- about the expected one are looked at; further ones to learn how far the queue has moved.
local NEAR, FAR = 10, 800
local ENDS = {tail = '\0queuedeck tail', head = '\0queuedeck head'}

-- The index of a place from the nearer end.
local function index(place, size)
  if place < size - place then return -place - 1 end
  return size - place - 1
end

-- The place of `text` near an expected one; nil when it is not there.
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

-- By how much the queue has moved on, as those show that are least likely to be gone.
local function moved_by(key, jobs, size)
  for n = #jobs, math.max(1, #jobs - 1), -1 do
    local place = find_near(key, jobs[n].text, jobs[n].place, size, FAR)
    if place then return jobs[n].place - place end
  end
  return 0
end

-- Takes entries out of a list in one pass from each end: each is overwritten by a mark, then all marks are removed.
-- `jobs`: {text, place}. Returns an outcome per job; where the server refuses one part, nothing is changed.
local function take_out(key, jobs)
  local size = redis.call('LLEN', key)
  local moved = moved_by(key, jobs, size)
  local outcomes, spots, marked = {}, {}, {tail = 0, head = 0}
  for n, job in ipairs(jobs) do
    local expected = job.place - moved
    local place = find_near(key, job.text, expected, size, NEAR)
    -- Whatever left the queue did so at its served end.
    outcomes[n] = place and DONE or (expected <= FAR and GONE or CHANGED)
    if place then
      local side = place < size - place and 'tail' or 'head'
      local set = try('LSET', key, index(place, size), ENDS[side])
      if failed(set) then
        outcomes[n] = set.err
      else
        marked[side] = marked[side] + 1
        spots[#spots + 1] = {place = place, job = job, n = n}
      end
    end
  end
  local removed = marked.tail == 0 or try('LREM', key, -marked.tail, ENDS.tail)
  if not failed(removed) and marked.head > 0 then removed = try('LREM', key, marked.head, ENDS.head) end
  if failed(removed) then
    for _, spot in ipairs(spots) do
      redis.call('LSET', key, index(spot.place, size), spot.job.text)
      outcomes[spot.n] = removed.err
    end
  end
  return outcomes
end

-- Puts a payload into its queue; nil, or the text of the error for which nothing was done.
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
