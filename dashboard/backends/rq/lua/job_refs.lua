-- Reads the ids and stamps of some rows of a list. Only reads. ARGV: the list or sorted set, prefix, 'list', 'up', 'down'
-- or 'expiring', first row, how many, now in seconds, '1' if the stamp is the finish time, '1' if members are executions.
-- Returns id and stamp ('' = none), alternating. 'expiring': newest first, without expired jobs, which rank between the
-- live ones and those that never expire.
local key, prefix, order, first, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local last, names = first + count - 1, nil
if order == 'list' then names = redis.call('LRANGE', key, first, last)
elseif order == 'up' then names = redis.call('ZRANGE', key, first, last)
elseif order == 'down' then names = redis.call('ZREVRANGE', key, first, last)
else
  local over = redis.call('ZCOUNT', key, 0, ARGV[6])
  local live = redis.call('ZCARD', key) - over - redis.call('ZCOUNT', key, '-inf', '(0')
  names = first < live and redis.call('ZREVRANGE', key, first, math.min(last, live - 1)) or {}
  local missing = count - #names
  if missing > 0 then
    local from = math.max(first, live) + over
    for _, name in ipairs(redis.call('ZREVRANGE', key, from, from + missing - 1)) do names[#names + 1] = name end
  end
end
local function short(key, name)
  local size = redis.pcall('HSTRLEN', key, name)
  return type(size) == 'number' and size > 0 and size <= 64 and redis.call('HGET', key, name)
end
local answers = {}
for _, name in ipairs(names) do
  local id, stamp = name, ''
  if ARGV[8] == '1' and string.match(name, ':' .. string.rep('%x', 32) .. '$') then id = string.sub(name, 1, -34) end
  local job = prefix .. ':job:' .. id
  stamp = ARGV[7] == '1' and short(job, 'ended_at') or short(job, 'enqueued_at') or short(job, 'created_at') or ''
  answers[#answers + 1] = id
  answers[#answers + 1] = stamp
end
return answers
