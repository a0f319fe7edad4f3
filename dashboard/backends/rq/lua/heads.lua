-- When the next waiting job of each queue was enqueued.
-- ARGV: prefix of job hashes, then the queues' lists. Answers per queue: text of enqueued_at, or false.
-- Timestamps are 27 bytes long; a longer value is no timestamp and is not copied.
local answers = {}
for i = 2, #ARGV do
  local id = redis.pcall('LINDEX', ARGV[i], 0)
  local found = false
  if type(id) == 'string' then
    local key = ARGV[1] .. id
    local size = redis.pcall('HSTRLEN', key, 'enqueued_at')
    if type(size) == 'number' and size > 0 and size <= 40 then
      found = redis.call('HGET', key, 'enqueued_at')
    end
  end
  answers[#answers + 1] = found
end
return answers
