-- The classes of finished jobs, how long they waited, and which failed jobs will be retried, from the hashes of the jobs.

local NAME_READ, NAME_SHOWN, NUMBER_BYTES, OPTIONS_BYTES = 4096, 200, 20, 1024
local NEWEST_ENOUGH = 5

-- The delay in the options of a job, in ms.
local function delay_of(opts)
  if not opts or not string.find(opts, '"delay"', 1, true) then return 0 end
  local ok, options = pcall(cjson.decode, opts)
  return ok and type(options) == 'table' and tonumber(options.delay) or 0
end

-- Returns the name of a job, the ms that it waited from when it could start (false if that is unknown, or if it is not the
-- first attempt), and the ms when it started; nothing if the job is gone.
local function facts_of(key)
  local length = read('HSTRLEN', key, 'name')
  if type(length) ~= 'number' or length == 0 then return nil, false, false end
  local name = length <= NAME_READ and string_sub(read('HGET', key, 'name'), 1, NAME_SHOWN) or ''
  if read('HSTRLEN', key, 'timestamp') > NUMBER_BYTES or read('HSTRLEN', key, 'processedOn') > NUMBER_BYTES
    or read('HSTRLEN', key, 'opts') > OPTIONS_BYTES then return name, false, false end
  local values = read('HMGET', key, 'timestamp', 'processedOn', 'opts')
  local added, begun = tonumber(values[1] or nil), tonumber(values[2] or nil)
  if not added or not begun then return name, false, begun or false end
  if read('HEXISTS', key, 'failedReason') == 1 then return name, false, begun end
  local wait = begun - added - delay_of(values[3])
  return name, wait >= 0 and wait, begun
end

-- Returns at most `most` entries of a list, evenly spread.
local function spread(list, most)
  if #list <= most then return list end
  local found = {}
  for n = 1, most do found[n] = list[math.floor((n - 1) * #list / most) + 1] end
  return found
end

-- Returns {{class, completed, failed, {run time ms...}}...} of about `most` of `ends`: {completed = jobs, failed = jobs},
-- newest first, each {id, ms of its end, of its start or false}; {wait ms...}; and {id, 1 if it failed or 0, ms of its end...}
-- of those whose class is unknown: they are gone, and not in `added`: id -> {name, ms when it was added or false}. If only
-- the newest are retained, they stand for those before.
local function classes_of(base, ends, added, most)
  local by_name, list, waits, unknown = {}, {}, {}, {}
  local failures = math.min(#ends.failed, math.ceil(most / 2))
  local looked = {[2] = spread(ends.completed, most - failures), [3] = spread(ends.failed, failures)}
  -- More of the failed jobs are looked at: only as many of their run times as there are for others of as many jobs.
  local timed, failed_share = 0, 1
  if #looked[2] > 0 and #looked[3] > 0 then
    failed_share = math.min(1, #ends.failed * #looked[2] / (#ends.completed * #looked[3]))
  end
  local function is_timed(place)
    if place == 2 then return true end
    timed = timed + failed_share
    return math.floor(timed) > math.floor(timed - failed_share)
  end
  local function count(job, stop, start, place, lost)
    local name, wait, begun = facts_of(base .. job)
    if not name and added[job] then
      name, wait = added[job][1], place == 2 and start and added[job][2] and start - added[job][2]
    end
    start = start or begun
    if not name then
      lost[#lost + 1] = {job, place - 2, stop}
      return false
    end
    local class = by_name[name]
    if not class then
      class = {name, 0, 0, {}}
      by_name[name] = class
      list[#list + 1] = class
    end
    class[place] = class[place] + 1
    if start and stop >= start and is_timed(place) then class[4][#class[4] + 1] = stop - start end
    if wait then waits[#waits + 1] = wait end
    return true
  end
  for place, jobs in pairs(looked) do
    local lost, newest_only, found = {}, true, 0
    for _, job in ipairs(jobs) do
      if count(job[1], job[2], job[3], place, lost) then
        found = found + 1
        newest_only = newest_only and #lost == 0
      end
    end
    if not newest_only or found < NEWEST_ENOUGH then
      for _, job in ipairs(lost) do
        for n = 1, 3 do unknown[#unknown + 1] = job[n] end
      end
    end
  end
  return {list, waits, unknown}
end

-- Returns how many of `jobs`, which went from active to waiting or delayed, had failed: a limited rate is another reason.
local function count_retries(base, jobs, most)
  local looked, failures = math.min(#jobs, most), 0
  for n = 1, looked do
    local key = base .. jobs[n]
    if read('HEXISTS', key, 'failedReason') == 1 or read('EXISTS', key) == 0 then failures = failures + 1 end
  end
  return looked > 0 and math.floor(failures * #jobs / looked + 0.5) or 0
end

-- Returns the newest jobs that finished after the ms `since` and are retained, for `classes_of`; at most `most` of each.
local function retained_ends(base, since, most)
  local ends = {}
  for _, set in ipairs({'completed', 'failed'}) do
    local jobs, found = {}, read('ZREVRANGEBYSCORE', base .. set, '+inf', '(' .. string.format('%.0f', since), 'WITHSCORES',
      'LIMIT', 0, most)
    if failed(found) then found = {} end
    for n = 1, #found, 2 do
      if #found[n] <= NAME_SHOWN then jobs[#jobs + 1] = {found[n], tonumber(found[n + 1]), false} end
    end
    ends[set] = jobs
  end
  return ends
end
