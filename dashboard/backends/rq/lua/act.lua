-- Moves jobs of one list. KEYS: the list or sorted set they stand in, then the hash of each job.
-- ARGV: verb, prefix, queue, now as RQ writes times, now in s, states they may be in as 'word word', target queue or '',
-- then id and stamp ('' = any) of each job. Returns an outcome per job: done, gone, changed, or why not.
local call = redis.call
local from, verb, prefix, queue, now, now_s = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local states, to = ' ' .. ARGV[6] .. ' ', ARGV[7]
local is_list = call('TYPE', from).ok == 'list'
local answers = {}

local function take_out(id)
  if is_list then return call('LREM', from, 1, id) == 1 end
  return call('ZREM', from, id) == 1
end

-- Who waits for others is on their lists of dependents: left there it would run again when they end.
local function leave_parents(id)
  local parents = prefix .. ':job::' .. id .. ':dependencies'
  if call('TYPE', parents).ok ~= 'set' then return end
  for _, parent in ipairs(call('SMEMBERS', parents)) do call('SREM', prefix .. ':job:' .. parent .. ':dependents', id) end
end

local function enqueue(id, key, name)
  call('HSET', key, 'status', 'queued', 'enqueued_at', now, 'started_at', '', 'ended_at', '', 'origin', name)
  call('HDEL', key, 'exc_info')
  local ttl = tonumber(call('HGET', key, 'ttl') or '')
  if ttl and ttl > 0 then call('EXPIRE', key, ttl) else call('PERSIST', key) end
  call('RPUSH', prefix .. ':queue:' .. name, id)
  call('SADD', prefix .. ':queues', prefix .. ':queue:' .. name)
end

for n = 2, #KEYS do
  local id, stamp, key = ARGV[4 + n * 2], ARGV[5 + n * 2], KEYS[n]
  local there = call('TYPE', key).ok == 'hash'
  local fields = there and call('HMGET', key, 'status', 'ended_at', 'origin', 'rate_limit_key') or {}
  if not there then
    answers[n - 1] = 'gone'
  elseif not string.find(states, ' ' .. tostring(fields[1]) .. ' ', 1, true) or (stamp ~= '' and fields[2] ~= stamp) then
    answers[n - 1] = 'changed'
  elseif verb ~= 'cancel' and fields[4] and fields[4] ~= '' then
    answers[n - 1] = 'its rate limit is kept by RQ alone: only its workers may put it in line'
  elseif not take_out(id) then
    answers[n - 1] = 'changed'
  else
    if verb == 'cancel' then
      call('HSET', key, 'status', 'canceled')
      call('ZADD', prefix .. ':canceled:' .. queue, now_s, id)
    else
      leave_parents(id)
      local origin = fields[3] and fields[3] ~= '' and fields[3] or queue
      enqueue(id, key, to ~= '' and to or origin)
    end
    answers[n - 1] = 'done'
  end
end
return answers
