-- Reads some fields of many jobs and the newest entries of their result streams, each with a size limit.
-- ARGV: bytes per field, entries per stream (0 = none), bytes per stream, number of fields, the fields,
--       then per job its hash and its stream.
-- Returns per job {type of the hash, values, entries}: if a value or the entries are too large, only their size.
local limit, count, stream_limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local last = 4 + tonumber(ARGV[4])
local answers = {}
for i = last + 1, #ARGV, 2 do
  local key, stream = ARGV[i], ARGV[i + 1]
  local kind = redis.call('TYPE', key).ok
  local values, entries = {}, {}
  if kind == 'hash' then
    for j = 5, last do
      local size = redis.call('HSTRLEN', key, ARGV[j])
      if size > limit then
        values[#values + 1] = size
      else
        values[#values + 1] = size > 0 and redis.call('HGET', key, ARGV[j]) or false
      end
    end
  end
  if count > 0 and redis.call('TYPE', stream).ok == 'stream' then
    -- If this is not permitted, the size of the entries is unknown, so they are not read.
    local size = redis.pcall('MEMORY', 'USAGE', stream)
    if type(size) == 'number' then
      entries = size > stream_limit and size or redis.call('XREVRANGE', stream, '+', '-', 'COUNT', count)
    end
  end
  answers[#answers + 1] = {kind, values, entries}
end
return answers
