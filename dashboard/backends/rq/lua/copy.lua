-- Puts copies of jobs in line. KEYS: hash and new hash of each job, in turn. ARGV: prefix, now as RQ writes times, then the
-- new id of each. Returns an outcome per job.
local call = redis.call
local prefix, now = ARGV[1], ARGV[2]
local answers = {}
for n = 1, #KEYS, 2 do
  local old, new, id = KEYS[n], KEYS[n + 1], ARGV[2 + (n + 1) / 2]
  local origin = call('TYPE', old).ok == 'hash' and call('HGET', old, 'origin')
  if not origin or origin == '' then
    answers[#answers + 1] = 'gone'
  elseif call('HSTRLEN', old, 'rate_limit_key') > 0 then
    answers[#answers + 1] = 'its rate limit is kept by RQ alone: only its workers may put it in line'
  else
    call('RESTORE', new, 0, call('DUMP', old))
    call('HDEL', new, 'exc_info', 'result', 'worker_name', 'last_heartbeat', 'group_id', 'dependency_id', 'number_of_retries')
    call('HSET', new, 'status', 'queued', 'created_at', now, 'enqueued_at', now, 'started_at', '', 'ended_at', '',
      'dependency_ids', '[]')
    call('RPUSH', prefix .. ':queue:' .. origin, id)
    call('SADD', prefix .. ':queues', prefix .. ':queue:' .. origin)
    answers[#answers + 1] = 'done'
  end
end
return answers
