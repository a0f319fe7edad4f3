-- Asks workers to stop jobs that they run. KEYS: the hash of each job. ARGV after those of writing.lua: the statuses they
-- may have, then id, stamp ('' = any) and command of each. Returns an outcome per job, as in move.lua.
local states = ' ' .. ARGV[5] .. ' '
local answers = {}
for n = 1, #KEYS do
  local id, stamp, order = ARGV[n * 3 + 3], ARGV[n * 3 + 4], ARGV[n * 3 + 5]
  local job, why = read(KEYS[n])
  why = why or not job.status and NO_STATUS or elsewhere(job) or differs(job, states, false, stamp)
  if not why then
    local size = call('HSTRLEN', KEYS[n], 'worker_name')
    local worker = size > 0 and size <= LONGEST and call('HGET', KEYS[n], 'worker_name')
    local heard = worker and try('PUBLISH', prefix .. ':pubsub:' .. worker, order) or 0
    if failed(heard) then why = heard.err
    elseif heard == 0 then why = 'its worker is not listening for commands; it may have stopped or lost its connection' end
  end
  answers[n] = why or 'done'
end
return answers
