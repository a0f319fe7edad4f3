-- Jobs that finished in many queues since the last sample, from their events streams; return values stay on the server.
-- ARGV[1]: maximum events to read in this call; ARGV[2]: ms that a first sample reaches back;
-- then for each queue `<prefix>:<queue>`, the last event id seen or '', the server's ms at that sample or '', and '1' if
-- its finished jobs may be removed: their names are then returned while they are known.
-- Returns per queue: now ms if nothing happened since the last sample, else {now ms, since ms, stream length, its limit
-- (first sample only), last event id (of the newest event if none was read), events read, ms of the oldest read,
-- completed, failed, {run time ms...}, {started id, ms...}, {finished id, ms...}, the result of `kept` if events are
-- missing, {whether the newest completed job was removed, the newest failed one: 1 or 0, false if there was none or a
-- user may have removed it; how many of the newest completed jobs were removed, of the newest failed ones}, number of
-- jobs ever added, number of unfinished jobs, number of events for ids assigned without a job, or for removed jobs, the
-- result of `classes_of`, jobs that failed and will be retried, {id, name, ms when it was added or false... of jobs that
-- have not finished}}.
local PER_QUEUE_MOST, PER_QUEUE_LEAST, SAMPLE, ID_LIMIT, LOOKED_UP = 1000, 20, 200, 200, 10
-- Where events are missing, run times come from the others only if the start of this share of the finished jobs is there.
local LEAST_STARTS = 0.95
local IN_VAIN = {duplicated = true, deduplicated = true, debounced = true, removed = true, cleaned = true}
local pool, window = tonumber(ARGV[1]), tonumber(ARGV[2])
-- The finished jobs whose hashes are read: at most, in each queue, and at least.
local hashes, HASHES_MOST, HASHES_LEAST = math.floor(pool / 5), 200, 2

local function clock()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

local function ms_of(id)
  return tonumber(string.match(id, '^%d+'))
end

local function event_of(entry)
  local event, job
  local pairs_ = entry[2]
  for i = 1, #pairs_, 2 do
    if pairs_[i] == 'event' then event = pairs_[i + 1] elseif pairs_[i] == 'jobId' then job = pairs_[i + 1] end
  end
  return event, job
end

local function value_of(entry, field)
  local pairs_ = entry[2]
  for i = 5, #pairs_, 2 do
    if pairs_[i] == field then return pairs_[i + 1] end
  end
end

-- An empty table costs Redis more to return than a value.
local function filled(list)
  return #list > 0 and list
end

-- Returns {id, name, ms when it was added or false...} of jobs that are running, or were added and wait.
local function names_of(base, started, added, done)
  local names = {}
  for n = 1, #started, 2 do
    local job, entry = started[n], added[started[n]]
    names[#names + 1] = job
    names[#names + 1] = entry and entry[1] or facts_of(base .. job) or ''
    names[#names + 1] = entry and entry[2] or false
  end
  for job, entry in pairs(added) do
    if done[job] == nil and #names < 3 * SAMPLE then
      names[#names + 1] = job
      names[#names + 1] = entry[1]
      names[#names + 1] = entry[2]
    end
  end
  return names
end

-- `is_brief`: finished jobs may be removed. `cut_short`: these are not all events since the last sample. Newest first, so
-- that each start belongs to the finish seen before it.
local function tally(base, events, cut_short, is_brief)
  local completed, dead = 0, 0
  local runtimes, started, ended, done = {}, {}, {}, {}
  local last, removed, cleaned, in_vain = {completed = {}, failed = {}}, {}, false, 0
  local ends, ending, added, back, delayed = {completed = {}, failed = {}}, {}, {}, {}, nil
  for i = 1, #events do
    local event, job = event_of(events[i])
    if IN_VAIN[event] then in_vain = in_vain + 1 end
    if event == 'completed' or event == 'failed' then
      if event == 'completed' then completed = completed + 1 else dead = dead + 1 end
      if job then
        done[job] = ms_of(events[i][1])
        if #job <= ID_LIMIT then
          ending[job] = {job, done[job], false}
          ends[event][#ends[event] + 1] = ending[job]
        end
        if #last[event] < LOOKED_UP and #job <= ID_LIMIT then last[event][#last[event] + 1] = job end
      end
    elseif event == 'removed' and job then
      removed[job] = true
    elseif event == 'cleaned' then
      cleaned = true
    elseif event == 'active' and job and #job <= ID_LIMIT then
      local stop, ms = done[job], ms_of(events[i][1])
      if stop == nil then
        if #started < 2 * SAMPLE then
          started[#started + 1] = job
          started[#started + 1] = ms
        end
        done[job] = false
      elseif stop then
        if ending[job] then ending[job][3] = ms end
        runtimes[#runtimes + 1] = stop - ms
        done[job] = false
      end
    elseif event == 'waiting' and job and #events[i][2] > 4 and #job <= ID_LIMIT then
      local from = value_of(events[i], 'prev')
      if from == 'active' or from == 'failed' then back[#back + 1] = job end
    elseif event == 'delayed' and job and #job <= ID_LIMIT then
      back[#back + 1] = job
      delayed = job
    elseif event == 'added' and job then
      -- Not from active: it was added with a delay.
      if delayed == job then back[#back] = nil end
      if is_brief and #job <= ID_LIMIT then
        added[job] = {cut(value_of(events[i], 'name'), NAME_SHOWN) or '', delayed ~= job and ms_of(events[i][1])}
      end
    end
    if event ~= 'delayed' then delayed = nil end
  end
  for job, stop in pairs(done) do
    if stop and #job <= ID_LIMIT and #ended < 2 * SAMPLE then
      ended[#ended + 1] = job
      ended[#ended + 1] = stop
    end
  end
  local gone = {false, false, 0, 0}
  for n, event in ipairs({'completed', 'failed'}) do
    for place, job in ipairs(last[event]) do
      -- If all events are present, the newest job is enough.
      if (place == 1 or cut_short) and not cleaned and not removed[job] then
        local is_gone = 1 - (tonumber(read('EXISTS', base .. job)) or 1)
        if place == 1 then gone[n] = is_gone end
        gone[n + 2] = gone[n + 2] + is_gone
      end
    end
  end
  -- The starts of long jobs are further back than the events that were read, so the rest would be the short jobs.
  if cut_short and #runtimes < LEAST_STARTS * (completed + dead) then
    runtimes = {}
    for _, entry in pairs(ending) do entry[3] = false end
  end
  local most = math.max(HASHES_LEAST, math.min(HASHES_MOST, hashes))
  local finished = #ends.completed + #ends.failed
  hashes = hashes - math.min(most, finished + #back) - (is_brief and #started / 2 or 0)
  local classes = finished > 0 and classes_of(base, ends, added, most)
  -- Those that are found first are of jobs that started last: of short ones.
  return completed, dead, filled(spread(runtimes, SAMPLE)), filled(started), filled(ended), gone, in_vain, classes,
    count_retries(base, back, most), is_brief and filled(names_of(base, started, added, done))
end

local function first_of(reply, n)
  if type(reply) == 'table' and reply[n or 1] then return reply[n or 1] end
  return false
end

-- Whether the queue has no unfinished jobs, with one command.
local function rests(base)
  return read('EXISTS', base .. 'wait', base .. 'paused', base .. 'active', base .. 'prioritized', base .. 'delayed',
    base .. 'waiting-children') == 0
end

-- The number of unfinished jobs over all lists; if none waits, one command may show that there are none.
local function unended(base)
  local waiting = read('LLEN', base .. 'wait')
  if waiting == 0 and rests(base) then return 0 end
  local total = type(waiting) == 'number' and waiting or 0
  for _, list in ipairs({'paused', 'active'}) do
    local size = read('LLEN', base .. list)
    total = total + (type(size) == 'number' and size or 0)
  end
  for _, set in ipairs({'prioritized', 'delayed', 'waiting-children'}) do
    local size = read('ZCARD', base .. set)
    total = total + (type(size) == 'number' and size or 0)
  end
  -- The marker of 4.x is not a job.
  local tail = waiting ~= 0 and read('LINDEX', base .. 'wait', -1)
  if type(tail) == 'string' and string.sub(tail, 1, 2) == '0:' then total = total - 1 end
  return total
end

-- The options of a running job, or of the next one.
local function options(base)
  for _, place in ipairs({{'active', 0}, {'wait', -1}}) do
    local id = read('LINDEX', base .. place[1], place[2])
    if type(id) == 'string' then
      local opts = fields(base .. id, 4096, {'opts'})
      if not failed(opts) and type(opts[1]) == 'string' then return opts[1] end
    end
  end
  return false
end

-- Returns {completed, failed, start, jobs ever added, unfinished jobs, retained finished jobs, options of a job, failed
-- jobs since `since`, whether a job that failed before is retained: 1 or 0}. Completed and failed are counted since
-- `start`, which is later than `since` if the app's removeOnComplete dropped jobs that finished after it; false if no
-- completed job is retained.
local function kept(base, since)
  local oldest = tonumber(first_of(read('ZRANGE', base .. 'completed', 0, 0, 'WITHSCORES'), 2) or nil)
  local start = string.format('%.0f', math.max(since, oldest and oldest - 1 or 0))
  local completed, dead = read('ZCARD', base .. 'completed'), read('ZCARD', base .. 'failed')
  local empty = rests(base)
  local first_failed = tonumber(first_of(read('ZRANGE', base .. 'failed', 0, 0, 'WITHSCORES'), 2) or nil)
  return {
    read('ZCOUNT', base .. 'completed', '(' .. start, '+inf'),
    read('ZCOUNT', base .. 'failed', '(' .. start, '+inf'),
    oldest and start or false,
    cut(read('GET', base .. 'id'), 20), empty and 0 or unended(base),
    type(completed) == 'number' and type(dead) == 'number' and completed + dead or 0, not empty and options(base),
    read('ZCOUNT', base .. 'failed', '(' .. string.format('%.0f', since), '+inf'),
    (first_failed or math.huge) <= since and 1 or 0,
  }
end

-- Returns the newest events after `from`, newest first, and whether these are all: at most `limit`, and a limited number
-- of bytes per queue and per call, as events contain return values. While events are short, many are read at a time.
local QUEUE_BYTES, left_bytes = 4194304, 16777216
local SHORT_EVENT, AT_ONCE = 4096, 64
local function events_of(stream, from, limit)
  local events, newest, step, bytes = {}, '+', left_bytes > 0 and 8 or 1, 0
  local room = math.max(1, math.min(QUEUE_BYTES, left_bytes))
  while #events < limit and bytes < room do
    step = math.min(step, limit - #events)
    local part, before = read('XREVRANGE', stream, newest, from, 'COUNT', step), bytes
    if failed(part) then return part, false end
    for i = 1, #part do
      events[#events + 1] = part[i]
      for _, value in ipairs(part[i][2]) do bytes = bytes + #value end
    end
    left_bytes = left_bytes - (bytes - before)
    if #part < step then return events, true end
    newest = '(' .. part[#part][1]
    step = bytes - before < SHORT_EVENT * step and AT_ONCE or 1
  end
  return events, false
end

-- The id of the newest event, for a queue whose events are all older than a sample reaches back: the next sample continues
-- from it, and sees immediately that nothing happened.
local function newest_id(stream)
  local newest = first_of(read('XREVRANGE', stream, '+', '-', 'COUNT', 1))
  return newest and newest[1]
end

local rows = {}
local now = clock()
for i = 3, #ARGV, 4 do
  local base, last, looked = ARGV[i] .. ':', ARGV[i + 1], tonumber(ARGV[i + 2])
  local since = looked or now - window
  local limit = math.max(PER_QUEUE_LEAST, math.min(PER_QUEUE_MOST, pool))
  local from = last ~= '' and '(' .. last or string.format('%.0f', since)
  local events, whole = events_of(base .. 'events', from, limit)
  local row
  if failed(events) then
    row = events
  elseif #events == 0 and last ~= '' and read('XLEN', base .. 'events') ~= 0 then
    row = now
  else
    pool = pool - #events
    local length = read('XLEN', base .. 'events')
    -- Events that were trimmed or exceed the limit are unknown.
    local cut_short = not whole or (last ~= '' and #events == length)
    row = {now, since, length, false, false, #events, false, 0, 0, false, false, false, false, false, false, 0, 0, false, false,
      false}
    if last == '' then row[4] = cut(read('HGET', base .. 'meta', 'opts.maxLenEvents'), 20) end
    if #events > 0 then
      row[5], row[7] = events[1][1], ms_of(events[#events][1])
      row[8], row[9], row[10], row[11], row[12], row[14], row[17], row[18], row[19], row[20] =
        tally(base, events, cut_short, ARGV[i + 3] == '1')
    elseif last == '' and length ~= 0 then
      row[5] = newest_id(base .. 'events')
    end
    -- BullMQ writes an event for each job that is added: a queue that keeps events and has none never had a job.
    local unused = length == 0 and #events == 0 and row[4] and string.match(row[4], '^[1-9]%d*$')
    if unused then
      row[15], row[16] = false, 0
    else
      row[15], row[16] = cut(read('GET', base .. 'id'), 20), unended(base)
      if cut_short or length == 0 then row[13] = kept(base, since) end
      if length == 0 and last == '' and looked then
        local most = math.max(HASHES_LEAST, math.min(HASHES_MOST / 2, hashes))
        local ends = retained_ends(base, since, most)
        local finished = #ends.completed + #ends.failed
        hashes = hashes - finished
        row[18] = finished > 0 and classes_of(base, ends, {}, 2 * most)
      end
    end
  end
  rows[#rows + 1] = row
end
return rows
