-- What plain commands cannot read of queues in one round trip. ARGV[1] says what: heads, orders, retrying or workers.

local function short(key, field, limit)
  local size = redis.pcall('HSTRLEN', key, field)
  return type(size) == 'number' and size > 0 and size <= limit and redis.call('HGET', key, field)
end

-- When the oldest waiting job of each queue was enqueued, of those that were looked at.
-- ARGV: heads, prefix of job hashes, the queues' lists. Answers per queue: text of enqueued_at, or false.
-- Timestamps are 27 bytes long; a longer value is no timestamp and is not copied. Their text sorts by time. The job may be
-- gone whose id stands in line.
local function heads()
  local answers, looks = {}, {1000}
  for i = 3, #ARGV do
    local length = redis.pcall('LLEN', ARGV[i])
    answers[#answers + 1] = type(length) == 'number' and oldest(length, function(place)
      local at = short(ARGV[2] .. redis.call('LINDEX', ARGV[i], place), 'enqueued_at', 40)
      return at and string.match(at, '^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d.*') or nil
    end, looks) or false
  end
  return answers
end

-- How long the next job of each list is to be kept when it has ended, and whether it may be tried again.
-- ARGV: orders, prefix of job hashes, then lists of waiting ids, and sorted sets of them with a `z` before the key, as
-- lists have an `l`. Answers per list: {id, result_ttl, failure_ttl, retries_left}, or false when it is empty.
local function orders()
  local answers = {}
  for i = 3, #ARGV do
    local kind, key = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 2)
    local id
    if kind == 'l' then
      id = redis.pcall('LINDEX', key, 0)
    else
      local first = redis.pcall('ZRANGE', key, 0, 0)
      id = type(first) == 'table' and first[1]
      -- Running jobs stand there with their execution.
      if id and string.match(id, ':%x+$') and #string.match(id, ':(%x+)$') == 32 then id = string.sub(id, 1, -34) end
    end
    local answer = false
    if type(id) == 'string' then
      answer = {string.sub(id, 1, 200)}
      for _, field in ipairs({'result_ttl', 'failure_ttl', 'retries_left'}) do
        answer[#answer + 1] = short(ARGV[2] .. id, field, 20)
      end
    end
    answers[#answers + 1] = answer
  end
  return answers
end

-- The live workers: those whose hash has not expired. A killed worker's key stays in the set, its hash does not.
-- ARGV: workers, the set of worker keys, how many workers and how many bytes of queue names to answer at most, keys of
-- workers that are answered even when they have left the set. Their queues are empty where Redis was emptied meanwhile:
-- a worker goes on to tell that it lives and what it counts, and not what it serves.
-- Answers {key, queues, version, successful_job_count, failed_job_count, birth} per worker; false when there are more
-- than that.
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

-- How many of the scheduled jobs of each queue ran before and are tried again, among the soonest. RQ keeps both alike.
-- ARGV: retrying, prefix of job hashes, how many of each queue are looked at, the queues' sorted sets.
-- Answers per queue {how many are, how many were looked at}, or false where it is no sorted set.
local function retrying()
  local answers, left = {}, 1000
  for i = 4, #ARGV do
    local ids = redis.pcall('ZRANGE', ARGV[i], 0, math.min(left, tonumber(ARGV[3])) - 1)
    if left <= 0 then ids = {} end
    local count = 0
    for _, id in ipairs(ids.err and {} or ids) do
      local key = ARGV[2] .. id
      local counts = short(key, 'retries_left', 40) or short(key, 'number_of_retries', 40)
      if counts and short(key, 'started_at', 40) and not short(key, 'repeats_left', 40) then count = count + 1 end
    end
    left = left - (ids.err and 0 or #ids)
    answers[#answers + 1] = not ids.err and {count, #ids}
  end
  return answers
end

local reads = {heads = heads, orders = orders, retrying = retrying, workers = workers}
return reads[ARGV[1]]()
