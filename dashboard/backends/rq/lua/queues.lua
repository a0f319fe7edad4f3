-- What plain commands cannot read of queues in one round trip. ARGV[1] says what: heads or workers.

local function short(key, field, limit)
  local size = redis.pcall('HSTRLEN', key, field)
  return type(size) == 'number' and size > 0 and size <= limit and redis.call('HGET', key, field)
end

-- When the next waiting job of each queue was enqueued.
-- ARGV: heads, prefix of job hashes, the queues' lists. Answers per queue: text of enqueued_at, or false.
-- Timestamps are 27 bytes long; a longer value is no timestamp and is not copied.
local function heads()
  local answers = {}
  for i = 3, #ARGV do
    local id = redis.pcall('LINDEX', ARGV[i], 0)
    answers[#answers + 1] = type(id) == 'string' and short(ARGV[2] .. id, 'enqueued_at', 40)
  end
  return answers
end

-- The live workers: those whose hash has not expired. A killed worker's key stays in the set, its hash does not.
-- ARGV: workers, the set of worker keys, how many workers and how many bytes of queue names to answer at most.
-- Answers {key, queues, version, successful_job_count, birth} per worker; false when there are more than that.
local function workers()
  local count, bytes, answers = redis.pcall('SCARD', ARGV[2]), tonumber(ARGV[4]), {}
  if type(count) ~= 'number' or count > tonumber(ARGV[3]) then
    return false
  end
  for _, key in ipairs(redis.call('SMEMBERS', ARGV[2])) do
    local size = redis.pcall('HSTRLEN', key, 'queues')
    if type(size) == 'number' and size > 0 then
      bytes = bytes - size
      if bytes < 0 then
        return false
      end
      local worker = {key, redis.call('HGET', key, 'queues')}
      for _, field in ipairs({'version', 'successful_job_count', 'birth'}) do
        worker[#worker + 1] = short(key, field, 64)
      end
      answers[#answers + 1] = worker
    end
  end
  return answers
end

return ARGV[1] == 'heads' and heads() or workers()
