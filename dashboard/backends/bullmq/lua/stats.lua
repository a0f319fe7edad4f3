-- Statistics of many queues. ARGV: `<prefix>:<queue>` and the hint of its last sample or '', alternating.
-- Returns per queue, flat because each table costs Redis as much as several values: {size of each list..., PTTL limiter,
-- stalled-check exists 0/1, meta-paused exists 0/1, meta fields...}, and if a list of unfinished jobs is not empty, more:
-- {..., the first characters of the tail of wait, score of the head of delayed, limiter, oldest, processedOn of the job
-- that has been active for longest, how many of the MOST_ACTIVE oldest have no lock, the ids of the jobs that were read
-- if all their fields are short}, in the order of StatsReply in stats.py; values that cannot exist because a list is
-- empty are not read. `oldest` has timestamp, processedOn, atm, attemptsMade, opts, one job after the other, of the jobs
-- at the ends of the waiting lists; the one that waits longest is among them.
-- The hint only affects how values are read, never what is returned: '1' for each of KEYS_ that did not exist, else '0',
-- '1' if all fields of meta were short, then those ids. One command checks whether all missing keys are still missing,
-- and fields that were short when the same jobs were last read are read without asking for their length first.
local LIMIT, IDS_LIMIT = 4096, 1000
local MOST_ACTIVE = 20
local NOTHING = {}
local KEYS_ = {
  'wait', 'paused', 'prioritized', 'active', 'delayed', 'waiting-children', 'failed', 'completed',
  'limiter', 'stalled-check', 'meta-paused',
}
local ASKED = {'LLEN', 'LLEN', 'ZCARD', 'LLEN', 'ZCARD', 'ZCARD', 'ZCARD', 'ZCARD', 'PTTL', 'EXISTS', 'EXISTS'}
local LISTS, LIMITER, META_PAUSED, YES = 6, 9, 11, 49
local NO_KEY = -2  -- as PTTL returns it
-- No number is longer; longer values are not read.
local NUMBER, TIMES = 40, {'timestamp', 'processedOn', 'atm', 'attemptsMade'}
-- The options of a job that was added without any: `{"attempts":0}`.
local NO_DELAY = 14
local byte, sub = string.byte, string.sub
-- Whether a field of the current queue was too long to read.
local long

local function is_job(id)
  return type(id) == 'string' and sub(id, 1, 2) ~= '0:'
end

local function filled(size)
  return type(size) == 'number' and size > 0
end

local function shorter(value, limit)
  if type(value) ~= 'string' then return false end
  if #value > limit then long = true end
  return #value <= limit and value
end

-- A number of a job; `short` if it was short when the job was last read.
local function number(key, name, short)
  if short then return shorter(read('HGET', key, name), NUMBER) end
  local found = fields(key, NUMBER, {name})[1]
  if type(found) == 'table' then long = true end
  return shorter(found, NUMBER)
end

local function details(found, key, short)
  local job
  if short then
    job = read('HMGET', key, 'timestamp', 'processedOn', 'atm', 'attemptsMade', 'opts')
    if failed(job) then return end
    local opts = shorter(job[5], LIMIT)
    job[5] = opts and #opts > NO_DELAY and opts
  else
    job = fields(key, NUMBER, TIMES)
    if failed(job) then return end
    local size = read('HSTRLEN', key, 'opts')
    if size > LIMIT then long = true end
    job[5] = size > NO_DELAY and size <= LIMIT and read('HGET', key, 'opts')
  end
  local at = #found
  for n = 1, #TIMES do
    if type(job[n]) == 'table' then long = true end
    found[at + n] = shorter(job[n], NUMBER)
  end
  found[at + 5] = job[5]
end

-- The ids of the next and the newest job of `wait`, and of the next jobs of `paused` and `prioritized`; '' for none.
local function ends(base, tail, waiting, paused, prioritized)
  local next_, newest, stopped, first = '', '', '', ''
  if filled(waiting) then
    if not is_job(tail) then tail = read('LINDEX', base .. 'wait', -2) end
    if is_job(tail) then
      next_ = tail
      newest = waiting > 1 and read('LINDEX', base .. 'wait', 0)
      newest = is_job(newest) and newest or ''
    end
  end
  if filled(paused) then
    local id = read('LINDEX', base .. 'paused', -1)
    stopped = is_job(id) and id or ''
  end
  if filled(prioritized) then
    local id = read('ZRANGE', base .. 'prioritized', 0, 0)[1]
    first = is_job(id) and id or ''
  end
  return next_, newest, stopped, first
end

-- The newest of `wait` counts if it was added earlier than the next, as in a queue that serves the last job first.
local function oldest(base, next_, newest, stopped, first, short)
  local found = {}
  if next_ ~= '' then
    details(found, base .. next_, short)
    if newest ~= '' then
      local added, next_added = number(base .. newest, 'timestamp', short), found[1]
      if added and next_added and added < next_added then details(found, base .. newest, short) end
    end
  end
  if stopped ~= '' then details(found, base .. stopped, short) end
  if first ~= '' then details(found, base .. first, short) end
  return found
end

-- The id of the oldest active job, and how many of the jobs that were read have no lock. A worker adds jobs at the left
-- of `active` when it picks them up, and holds a lock on each that it renews.
local function running(base, active)
  if not filled(active) then return '', false end
  -- A table costs Redis more than a value.
  local ids = active == 1 and {read('LINDEX', base .. 'active', -1) or nil}
    or read('LRANGE', base .. 'active', -MOST_ACTIVE, -1)
  if failed(ids) then return '', false end
  if #ids == 0 then return '', 0 end
  local first, count = ids[#ids], #ids
  for i = 1, count do ids[i] = base .. ids[i] .. ':lock' end
  local locked = read('EXISTS', unpack(ids))
  return first, not failed(locked) and count - locked
end

-- The score of the next delayed job; false if there is none.
local function due(base, delayed)
  if not filled(delayed) then return false end
  local head = read('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
  return failed(head) and head or head[2] or false
end

-- Which of KEYS_ are checked together, because they were missing, and which one by one. Most queues have the same plan.
local plans = {}
local function plan_of(before)
  local known = sub(before, 1, #KEYS_)
  local plan = plans[known]
  if not plan then
    plan = {missing = {}, others = {}}
    for n = 1, #KEYS_ do
      local where = byte(known, n) == YES and plan.missing or plan.others
      where[#where + 1] = n
    end
    plans[known] = plan
  end
  return plan.missing, plan.others
end

local META = {'paused', 'version', 'concurrency', 'max', 'duration', 'opts.maxLenEvents'}
-- Replaces a field of meta that is too long to read.
local TOO_LONG = '?'

local function meta_of(base, short)
  if short then return cut(read('HMGET', base .. 'meta', unpack(META)), LIMIT) end
  local found = fields(base .. 'meta', LIMIT, META)
  if failed(found) then return found end
  for n = 1, #META do
    if type(found[n]) == 'table' then found[n] = TOO_LONG end
  end
  return found
end

-- The part of a row that every queue has: sizes, timers, meta.
local function sizes(base, before)
  local meta = meta_of(base, byte(before, #KEYS_ + 1) == YES)
  local of = failed(meta) and NOTHING or meta
  local bull = not (of[2] or of[6])
  local missing, others = plan_of(before)
  local row = {
    0, 0, 0, 0, 0, 0, 0, 0, NO_KEY, 0, 0,
    failed(meta) and meta or of[1] or false, of[2] or false, of[3] or false, of[4] or false, of[5] or false, of[6] or false,
  }
  if #missing > 0 then
    local names = {}
    for n = 1, #missing do names[n] = base .. KEYS_[missing[n]] end
    if read('EXISTS', unpack(names)) ~= 0 then
      for _, n in ipairs(missing) do row[n] = read(ASKED[n], base .. KEYS_[n]) end
    end
  end
  for i = 1, #others do
    local n = others[i]
    if n ~= META_PAUSED or bull then row[n] = read(ASKED[n], base .. KEYS_[n]) end
  end
  return row
end

local rows = {}
for i = 1, #ARGV, 2 do
  local base, before = ARGV[i] .. ':', ARGV[i + 1]
  local row, rests = sizes(base, before), true
  for n = 1, LISTS do rests = rests and row[n] == 0 end
  if not rests or row[LIMITER] ~= NO_KEY then
    long = false
    local waiting, paused, prioritized, active, delayed = unpack(row, 1, 5)
    local tail = filled(waiting) and cut(read('LINDEX', base .. 'wait', -1), LIMIT)
    local next_, newest, stopped, first = ends(base, tail, waiting, paused, prioritized)
    local began, lost = running(base, active)
    local ids = table.concat({next_, newest, stopped, first, began}, ' ')
    local short = #before > #KEYS_ + 1 and sub(before, #KEYS_ + 2) == ids
    local at = #row
    row[at + 1] = type(tail) == 'string' and sub(tail, 1, 2) or tail
    row[at + 2] = due(base, delayed)
    row[at + 3] = filled(row[LIMITER]) and read('GETRANGE', base .. 'limiter', 0, NUMBER - 1)
    row[at + 4] = oldest(base, next_, newest, stopped, first, short)
    row[at + 5] = began ~= '' and number(base .. began, 'processedOn', short)
    row[at + 6] = lost
    row[at + 7] = not long and #ids <= IDS_LIMIT and ids
  end
  rows[#rows + 1] = row
end
return rows
