-- Reads of queues that plain commands cannot do in one round trip. ARGV[1]: figures, ended, orders or workers.

local function short(key, field, limit)
  local size = redis.pcall('HSTRLEN', key, field)
  return type(size) == 'number' and size > 0 and size <= limit and redis.call('HGET', key, field)
end

-- Returns the reply to a command; an error is a value like any other.
local read = redis.pcall

local function filled(size)
  return type(size) == 'number' and size > 0
end

-- Returns the enqueued_at text of the oldest waiting job among those checked, or false.
-- Timestamps are 27 bytes long; a longer value is not a timestamp and is not copied. They sort as text. An id can be in
-- the queue although its job no longer exists.
local function head(line, length, jobs, looks)
  return oldest(length, function(place)
    local at = short(jobs .. redis.call('LINDEX', line, place), 'enqueued_at', 40)
    return at and string.match(at, '^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d.*') or nil
  end, looks) or false
end

-- Returns how many of the `most` soonest scheduled jobs ran before and are retried, and how many were checked. RQ stores
-- both kinds in the same way. `left` = {how many jobs of all queues can still be checked}.
local function retrying(set, jobs, most, left)
  local ids = left[1] > 0 and redis.call('ZRANGE', set, 0, math.min(left[1], most) - 1) or {}
  local count = 0
  for _, id in ipairs(ids) do
    local key = jobs .. id
    local counts = short(key, 'retries_left', 40) or short(key, 'number_of_retries', 40)
    if counts and short(key, 'started_at', 40) and not short(key, 'repeats_left', 40) then count = count + 1 end
  end
  left[1] = left[1] - #ids
  return count, #ids
end

-- Reads the statistics of queues. ARGV: figures, prefix, now in whole seconds, how many scheduled jobs of each are checked;
-- then alternating: a queue's name, and '1' for each of SIZED that did not exist in the last sample, else '0', or ''. The
-- missing keys are checked together: one command if they are still missing, as in an idle queue.
-- Returns per queue, flat: the replies to `_count_commands` in stats.py, in its order, of the next scheduled job only the
-- score; then enqueued_at of the oldest waiting job, how many of the scheduled jobs are retried, and how many were checked.
local SIZED = {':wip:', ':scheduled:', ':deferred:', ':failed:', ':canceled:', ':workers:'}
local ASKED = {'ZCARD', 'ZCARD', 'ZCARD', 'ZCARD', 'ZCARD', 'SCARD', 'LLEN', 'LLEN'}
local YES = 49
local function figures()
  local prefix, second, most = ARGV[2], ARGV[3], tonumber(ARGV[4])
  local answers, looks, left, jobs = {}, {1000}, {1000}, prefix .. ':job:'
  local finished, after = prefix .. ':finished:', '(' .. second
  local args, stems, plans = ARGV, {}, {}
  for n = 1, #SIZED do stems[n] = prefix .. SIZED[n] end
  for i = 5, #args, 2 do
    local name, before = args[i], args[i + 1]
    local line = prefix .. ':queue:' .. name
    local wip, scheduled, failed = stems[1] .. name, stems[2] .. name, stems[4] .. name
    local keys = {
      wip, scheduled, stems[3] .. name, failed, stems[5] .. name, stems[6] .. name, line, line .. ':intermediate',
    }
    local plan = plans[before]
    if not plan then
      plan = {missing = {}, others = {}}
      for n = 1, #keys do
        local where = string.byte(before, n) == YES and plan.missing or plan.others
        where[#where + 1] = n
      end
      plans[before] = plan
    end
    local sizes, missing = {0, 0, 0, 0, 0, 0, 0, 0}, {}
    for n, key in ipairs(plan.missing) do missing[n] = keys[key] end
    if #missing > 0 and read('EXISTS', unpack(missing)) ~= 0 then
      for _, n in ipairs(plan.missing) do sizes[n] = read(ASKED[n], keys[n]) end
    end
    for _, n in ipairs(plan.others) do sizes[n] = read(ASKED[n], keys[n]) end
    local lost, first, expired, again, looked = sizes[1], false, sizes[4], 0, 0
    if filled(sizes[1]) then lost = read('ZCOUNT', wip, 0, second) end
    if filled(sizes[4]) then expired = read('ZCOUNT', failed, 0, second) end
    if filled(sizes[2]) then
      first = read('ZRANGE', scheduled, 0, 0, 'WITHSCORES')
      first = first.err and first or first[2] or false
      again, looked = retrying(scheduled, jobs, most, left)
    elseif type(sizes[2]) ~= 'number' then
      first = sizes[2]
    end
    answers[#answers + 1] = {
      sizes[7], sizes[1], lost, sizes[2], first, sizes[3], sizes[4], expired,
      read('ZCOUNT', finished .. name, after, '+inf'), sizes[5], sizes[6], sizes[8],
      filled(sizes[7]) and head(line, sizes[7], jobs, looks), again, looked,
    }
  end
  return answers
end

-- Counts the finished and failed jobs of each queue above some bounds. ARGV: ended, prefix; six bounds of an anchor: three
-- for finished jobs, three for failed ones, each from the highest to the lowest; the six of the previous anchor, or '' for
-- each; minimum and maximum of the window, for finished and for failed jobs; the two maximums for the newest ids, their
-- minimum, how many; then alternating: a queue's name, and what else to read: `w` the window, `n` the newest, `c` and the
-- checksum of its seven counts in the last sample, and these: if they have changed, the newest, a few more than were added.
-- Returns per queue, flat: the counts above the six bounds, and of jobs without expiry; the same for the previous anchor;
-- the counts of the window; two lists of ids, at most IDS_MOST in a call; each only if requested. False if a registry cannot be read.
local function above(found, done, dead, bounds, first)
  local at, count = #found, 1
  -- If none is above a bound, none is above a higher one.
  for n = 3, 1, -1 do
    if count ~= 0 then count = redis.call('ZCOUNT', done, bounds[first + n], '+inf') end
    found[at + n] = count
  end
  count = 1
  for n = 6, 4, -1 do
    if count ~= 0 then count = redis.call('ZCOUNT', dead, bounds[first + n], '+inf') end
    found[at + n] = count
  end
  found[at + 7] = redis.call('ZCOUNT', dead, '-inf', '(0')
end

-- As `CHECKSUM_WEIGHTS` in registry_counts.py.
local function checksum(found, at)
  return found[at + 1] + 3 * found[at + 2] + 5 * found[at + 3] + 7 * found[at + 4] + 11 * found[at + 5] + 13 * found[at + 6]
    + 17 * found[at + 7]
end

-- Returns the newest ids of a registry; of jobs of the same second, some that were there before may be first.
local IDS_MOST = 400
local ids_left = IDS_MOST
local function newest(key, to, from, most, added)
  if added <= 0 then return {} end
  local ids = redis.call('ZREVRANGEBYSCORE', key, to, from, 'LIMIT', 0,
    math.min(most, ids_left, added + math.floor(added / 2) + 1))
  ids_left = ids_left - #ids
  return ids
end

-- Returns how many jobs were added to both registries at most: `found` from `at` on, and `before`, are counts.
local function added_since(found, at, before)
  local grown, place = {}, 0
  for count in string.gmatch(before, ' (%d+)') do
    place = place + 1
    grown[place] = found[at + place] - tonumber(count)
  end
  return math.max(grown[1], grown[2], grown[3]), math.max(grown[4], grown[5], grown[6], 0) + math.max(grown[7], 0)
end

local function ended_in(done, dead, more, args)
  local found = {}
  above(found, done, dead, args, 2)
  local before = string.byte(more) == 99 and tonumber(string.match(more, '^c(%d+)'))
  if before and args[9] == '' and checksum(found, 0) == before then return found end
  if string.find(more, 'w', 1, true) then
    found[#found + 1] = redis.call('ZCOUNT', done, args[15], args[16])
    found[#found + 1] = redis.call('ZCOUNT', dead, args[17], args[18])
  elseif args[9] ~= '' then
    above(found, done, dead, args, 8)
  end
  local at, completed, failed = args[9] == '' and 0 or 7, 0, 0
  if before and checksum(found, at) ~= before then
    completed, failed = added_since(found, at, more)
  elseif string.find(more, 'n', 1, true) then
    completed, failed = tonumber(args[21]), tonumber(args[21])
  end
  if completed > 0 or failed > 0 then
    local to_done, to_dead = string.match(args[19], '^(%S+) (%S+)$')
    found[#found + 1] = newest(done, to_done, args[20], tonumber(args[21]), completed)
    found[#found + 1] = newest(dead, to_dead, args[20], tonumber(args[21]), failed)
  end
  return found
end

local function ended()
  local answers, args = {}, ARGV
  local finished, failed = args[2] .. ':finished:', args[2] .. ':failed:'
  for i = 22, #args, 2 do
    local fine, answer = pcall(ended_in, finished .. args[i], failed .. args[i], args[i + 1], args)
    answers[#answers + 1] = fine and answer
  end
  return answers
end

-- Reads how long the next job of each list is retained after it finishes, and whether it can be retried.
-- ARGV: orders, prefix of job hashes, then alternating: the key of a list of ids, preceded by `l`, or of a sorted set,
-- preceded by `z`, and the id that was next in the last sample, or ''. Returns per list: {id, result_ttl, failure_ttl,
-- retries_left}, only the id if it is the same, or false if the list is empty.
local ID_LIMIT = 200
local function orders()
  local answers = {}
  for i = 3, #ARGV, 2 do
    local kind, key = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 2)
    local id
    if kind == 'l' then
      id = redis.pcall('LINDEX', key, 0)
    else
      local first = redis.pcall('ZRANGE', key, 0, 0)
      id = type(first) == 'table' and first[1]
      -- Running jobs are stored with their execution.
      if id and string.match(id, ':%x+$') and #string.match(id, ':(%x+)$') == 32 then id = string.sub(id, 1, -34) end
    end
    local answer = false
    if type(id) == 'string' then
      if #id < ID_LIMIT and id == ARGV[i + 1] then
        answer = id
      else
        answer = {
          string.sub(id, 1, ID_LIMIT), short(ARGV[2] .. id, 'result_ttl', 20), short(ARGV[2] .. id, 'failure_ttl', 20),
          short(ARGV[2] .. id, 'retries_left', 20),
        }
      end
    end
    answers[#answers + 1] = answer
  end
  return answers
end

-- Reads the live workers: those whose hash has not expired. A killed worker's key stays in the set, its hash does not.
-- ARGV: workers, the set of worker keys, the maximum number of workers and of bytes of queue names to return, keys of
-- workers that are returned even if they are no longer in the set. Their queues are empty if Redis was emptied since: a
-- worker keeps writing its heartbeat and its counters, but not its queues.
-- Returns {key, queues, version, successful_job_count, failed_job_count, birth} per worker; false if the limits are
-- exceeded.
local function workers()
  local count, bytes, answers = redis.pcall('SCARD', ARGV[2]), tonumber(ARGV[4]), {}
  if type(count) ~= 'number' or count > tonumber(ARGV[3]) then
    return false
  end
  local asked, seen = redis.call('SMEMBERS', ARGV[2]), {}
  for i = 5, #ARGV do asked[#asked + 1] = ARGV[i] end
  for _, key in ipairs(asked) do
    local size = not seen[key] and redis.pcall('HSTRLEN', key, 'queues')
    seen[key] = true
    if type(size) == 'number' and (size > 0 or short(key, 'last_heartbeat', 64)) then
      bytes = bytes - size
      if bytes < 0 then
        return false
      end
      local worker = {key, redis.call('HGET', key, 'queues') or ''}
      for _, field in ipairs({'version', 'successful_job_count', 'failed_job_count', 'birth'}) do
        worker[#worker + 1] = short(key, field, 64)
      end
      answers[#answers + 1] = worker
    end
  end
  return answers
end

local reads = {figures = figures, ended = ended, orders = orders, workers = workers}
return reads[ARGV[1]]()
