-- Enqueues copies of jobs. KEYS: hash and new hash of each job, alternating. ARGV after those of writing.lua: the statuses
-- they may have, '1' if the stamp is the finish time, largest copy in bytes, then id, stamp ('' = any) and new id of each.
-- Returns an outcome per job, as in move.lua.
local states, ended, largest = ' ' .. ARGV[5] .. ' ', ARGV[6] == '1', tonumber(ARGV[7])
local refused = may('HSET', 'HDEL', 'RPUSH', 'ZADD', 'PERSIST')
if refused then return refused end
-- Fields about the runs of the original, and its relations to other jobs.
local OWN = {
  'exc_info', 'result', 'worker_name', 'last_heartbeat', 'number_of_retries', 'group_id', 'dependency_id', 'dependency_ids',
  'allow_dependency_failures', 'repeats_left', 'repeat_intervals',
}

local function copy(old, new, stamp, new_id)
  local job, why = read(old)
  if not job then return why end
  if not job.status then return NO_STATUS end
  why = elsewhere(job) or differs(job, states, ended, stamp)
  if why then return why end
  if call('EXISTS', new) == 1 then return 'done|its copy already exists; to get another one, duplicate the copy' end
  if call('HSTRLEN', old, 'data') == 0 then return 'its data no longer exists' end
  if call('HLEN', old) > MANY or call('MEMORY', 'USAGE', old, 'SAMPLES', 0) > largest then return 'it is too large to copy' end
  local made = try('RESTORE', new, 0, call('DUMP', old))
  if failed(made) then return made.err end
  call('HDEL', new, unpack(OWN))
  call('HSET', new, 'created_at', now, 'status', 'created')
  why = enqueue(new_id, new, job, queue, {})
  if why then call('DEL', new) end
  return why or 'done'
end

local answers = {}
for n = 1, #KEYS, 2 do
  local arg = 8 + (n - 1) / 2 * 3
  answers[#answers + 1] = copy(KEYS[n], KEYS[n + 1], ARGV[arg + 1], ARGV[arg + 2])
end
return answers
