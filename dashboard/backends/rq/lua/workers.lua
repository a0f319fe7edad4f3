-- The live workers: those whose hash has not expired. A killed worker's key stays in the set, its hash does not.
-- ARGV: the set of worker keys, how many workers and how many bytes of queue names to answer at most.
-- Answers {key, queues, version, successful_job_count, birth} per worker; false when there are more than that.
local workers = redis.pcall('SCARD', ARGV[1])
if type(workers) ~= 'number' or workers > tonumber(ARGV[2]) then
  return false
end
local answers, bytes = {}, 0
for _, key in ipairs(redis.call('SMEMBERS', ARGV[1])) do
  local size = redis.pcall('HSTRLEN', key, 'queues')
  if type(size) == 'number' and size > 0 then
    bytes = bytes + size
    if bytes > tonumber(ARGV[3]) then
      return false
    end
    local worker = {key, redis.call('HGET', key, 'queues')}
    for _, field in ipairs({'version', 'successful_job_count', 'birth'}) do
      local short = redis.call('HSTRLEN', key, field) <= 64
      worker[#worker + 1] = short and redis.call('HGET', key, field) or false
    end
    answers[#answers + 1] = worker
  end
end
return answers
