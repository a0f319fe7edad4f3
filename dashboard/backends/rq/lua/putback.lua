-- Enqueues jobs that are in no list. KEYS: the queue's list, then the hash of each job. ARGV after those of writing.lua:
-- 'look' (only check) or 'do', the statuses they may have, '1' if the stamp is the finish time, then id and stamp
-- ('' = any) of each. Returns an outcome per job, as in move.lua.
local line, does, states, ended = KEYS[1], ARGV[5] == 'do', ' ' .. ARGV[6] .. ' ', ARGV[7] == '1'
local refused = may('HSET', 'HDEL', 'RPUSH', 'LPUSH', 'LREM', 'PERSIST') or wrong(line, 'list')
if refused then return refused end

local function put_back(id, stamp, key)
  local job, why = read(key)
  if not job then return why end
  if not job.status then return NO_STATUS end
  why = differs(job, states, ended, stamp) or unlisted(line, id, job)
  if why then return why end
  if not does then return 'done' end
  local parents = parents_of(id)
  if not parents then return 'it depends on too many jobs' end
  if job.status == 'queued' then
    -- It was next when a worker picked it up, and is still waiting.
    call('LPUSH', line, id)
    know(line)
  else
    why = enqueue(id, key, job, queue, parents)
    if why then return why end
  end
  leave(id, parents)
  forget_taken(line, id, job)
  return 'done'
end

local answers = {}
for n = 2, #KEYS do
  local arg = n * 2 + 4
  answers[n - 1] = put_back(ARGV[arg], ARGV[arg + 1], KEYS[n])
end
return answers
