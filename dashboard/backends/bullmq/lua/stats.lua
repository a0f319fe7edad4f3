-- The figures of many queues. ARGV: `<prefix>:<queue>` of each.
-- Returns per queue, flat since each table costs Redis as much as several values: {size of each list..., meta fields,
-- tail of wait, score of the head of delayed, PTTL limiter, limiter, stalled-check there 0/1, meta-paused there 0/1,
-- oldest, processedOn of the job that has been active for longest, how many of the MOST_ACTIVE oldest have no lock}, as
-- `Row` in stats.py has it; what cannot be since a list is empty is not asked for. `oldest` holds timestamp, processedOn,
-- atm, attemptsMade, opts, one job after the other, of the jobs at the ends of the waiting lists, among which the one
-- that waits longest is found.
local LIMIT = 4096
local MOST_ACTIVE = 20
local NOTHING = {}
-- No number is longer, and what is longer is not read.
local NUMBER, TIMES = 40, {'timestamp', 'processedOn', 'atm', 'attemptsMade'}
-- The options of a job that was added without any: `{"attempts":0}`.
local NO_DELAY = 14

local function is_job(id)
  return type(id) == 'string' and string.sub(id, 1, 2) ~= '0:'
end

local function filled(size)
  return type(size) == 'number' and size > 0
end

local function details(found, key)
  local job = fields(key, NUMBER, TIMES)
  if failed(job) then return end
  for n = 1, #TIMES do job[n] = type(job[n]) == 'string' and job[n] end
  local at, size = #found, read('HSTRLEN', key, 'opts')
  found[at + 1], found[at + 2], found[at + 3], found[at + 4] = job[1], job[2], job[3], job[4]
  found[at + 5] = size > NO_DELAY and size <= LIMIT and read('HGET', key, 'opts')
end

-- The next job of `wait`, and the newest one where that was added earlier, as in a queue that serves the last first.
local function ends(base, tail, waiting, paused, prioritized)
  local found = {}
  if filled(waiting) then
    if not is_job(tail) then tail = read('LINDEX', base .. 'wait', -2) end
    if is_job(tail) then
      details(found, base .. tail)
      local head = waiting > 1 and read('LINDEX', base .. 'wait', 0)
      if is_job(head) then
        local added, next_added = fields(base .. head, NUMBER, {'timestamp'})[1], found[1]
        if type(added) == 'string' and next_added and added < next_added then details(found, base .. head) end
      end
    end
  end
  if filled(paused) then
    local id = read('LINDEX', base .. 'paused', -1)
    if is_job(id) then details(found, base .. id) end
  end
  if filled(prioritized) then
    local id = read('ZRANGE', base .. 'prioritized', 0, 0)[1]
    if is_job(id) then details(found, base .. id) end
  end
  return found
end

-- A worker puts what it takes at the left of `active`, and holds a lock on it that it renews.
local function running(base, active)
  if not filled(active) then return false, false end
  local ids = read('LRANGE', base .. 'active', -MOST_ACTIVE, -1)
  if failed(ids) then return false, false end
  if #ids == 0 then return false, 0 end
  local oldest, count = base .. ids[#ids], #ids
  for i = 1, count do ids[i] = base .. ids[i] .. ':lock' end
  local locked = read('EXISTS', unpack(ids))
  local began = fields(oldest, NUMBER, {'processedOn'})[1]
  return type(began) == 'string' and began, not failed(locked) and count - locked
end

-- The score of the next delayed job; false when there is none.
local function due(base, delayed)
  if not filled(delayed) then return false end
  local head = read('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
  return failed(head) and head or head[2] or false
end

-- PTTL of the limiter, and whether `stalled-check` is there: one command where neither is, as in a queue at rest.
local function timers(base)
  local limiter, check = base .. 'limiter', base .. 'stalled-check'
  local there = read('EXISTS', limiter, check)
  if there == 0 then return -2, 0 end
  local ttl = read('PTTL', limiter)
  if failed(there) or failed(ttl) then return ttl, there end
  return ttl, there - (ttl == -2 and 0 or 1)
end

local rows = {}
for i = 1, #ARGV do
  local base = ARGV[i] .. ':'
  local meta = cut(
    read('HMGET', base .. 'meta', 'paused', 'version', 'concurrency', 'max', 'duration', 'opts.maxLenEvents'), LIMIT)
  local bull = failed(meta) or not (meta[2] or meta[6])
  local limit_ttl, checked = timers(base)
  local waiting, paused = read('LLEN', base .. 'wait'), read('LLEN', base .. 'paused')
  local prioritized, delayed = read('ZCARD', base .. 'prioritized'), read('ZCARD', base .. 'delayed')
  local tail = filled(waiting) and cut(read('LINDEX', base .. 'wait', -1), LIMIT)
  local active = read('LLEN', base .. 'active')
  local began, lost = running(base, active)
  local of = failed(meta) and NOTHING or meta
  rows[i] = {
    waiting, paused, prioritized, active, delayed,
    read('ZCARD', base .. 'waiting-children'), read('ZCARD', base .. 'failed'), read('ZCARD', base .. 'completed'),
    failed(meta) and meta or of[1] or false, of[2] or false, of[3] or false, of[4] or false, of[5] or false,
    of[6] or false, tail, due(base, delayed),
    limit_ttl, filled(limit_ttl) and read('GETRANGE', base .. 'limiter', 0, NUMBER - 1),
    checked, bull and read('EXISTS', base .. 'meta-paused') or 0,
    ends(base, tail, waiting, paused, prioritized), began, lost,
  }
end
return rows
