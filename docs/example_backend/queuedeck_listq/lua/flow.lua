-- ARGV: key of the queue, the time up to which jobs were counted before. Returns how many were done and how many died
-- since, the time of the last one, and when up to 100 of them started and finished, by turns.
local key, last, times = ARGV[1], ARGV[2], {}
local since = '(' .. last
for _, list in ipairs({key .. ':done', key .. ':dead'}) do
  local found = redis.call('ZREVRANGEBYSCORE', list, '+inf', since, 'WITHSCORES', 'LIMIT', 0, 50)
  if found[2] and tonumber(found[2]) > tonumber(last) then last = found[2] end
  for n = 1, #found, 2 do
    times[#times + 1] = short_field(key .. ':job:' .. found[n], 'started_at', 40)
    times[#times + 1] = found[n + 1]
  end
end
return {redis.call('ZCOUNT', key .. ':done', since, '+inf'), redis.call('ZCOUNT', key .. ':dead', since, '+inf'), last, times}
