-- Moves jobs from one list into a queue, or to the canceled jobs. KEYS: the list or sorted set they are in, then the hash
-- of each. ARGV after those of writing.lua: verb, 'list' or 'zset', the statuses they may have, '1' if the stamp is the
-- finish time, the destination queue or '', '1' to reset attempts, how many were removed earlier, then id, stamp ('' =
-- any) and position ('' in a set) of each, front first. Returns an outcome per job: 'done', 'gone', 'changed', 'lost',
-- with '|detail', or why it was refused.
local from, verb, kind, states, ended = KEYS[1], ARGV[5], ARGV[6], ' ' .. ARGV[7] .. ' ', ARGV[8] == '1'
local target, reset, before = ARGV[9], ARGV[10] == '1', tonumber(ARGV[11])
local listed, canceled = kind == 'list', prefix .. ':canceled:' .. queue
local into, into_kind = prefix .. ':queue:' .. (target ~= '' and target or queue), 'list'
if verb == 'cancel' then into, into_kind = canceled, 'zset' end
local refused = may('HSET', 'HDEL', 'RPUSH', 'ZADD', 'PERSIST', listed and 'LREM' or 'ZREM', listed and 'LSET' or 'ZREM')
  or wrong(from, kind) or wrong(into, into_kind)
if refused then return refused end
-- A live scheduler may be reading the jobs that are due, and would enqueue them a second time.
local scheduler = from == prefix .. ':scheduled:' .. queue and call('EXISTS', prefix .. ':scheduler-lock:' .. queue) == 1

-- Returns the list of a job and its score in it, or nil; RQ 3.0 holds rate-limited jobs in a separate set.
local function standing(id, job)
  local at = from
  if job.status == 'rate_limited' then at = prefix .. ':rl:' .. (job.rate_limit_key or '') .. ':rate_limited' end
  local score = try('ZSCORE', at, id)
  return type(score) == 'string' and at, tonumber(type(score) == 'string' and score or '')
end

local function check(step)
  local job, why = read(step.key)
  if not job then return why end
  if not job.status then return NO_STATUS end
  step.job, step.parents = job, parents_of(step.id)
  why = differs(job, states, ended, step.stamp)
  if why then return why end
  if not listed then
    local score
    step.from, score = standing(step.id, job)
    if not step.from then return NOT_LISTED end
    if scheduler and score <= now_s + 1 then return 'it is due; RQ\'s scheduler is enqueuing it now' end
  end
  if job.status == 'rate_limited' and verb ~= 'cancel' then
    return 'it is waiting for its rate limit; RQ enqueues it when another job finishes'
  end
  if not step.parents then return 'it depends on too many jobs' end
  if runs(step.id) then return RUNS end
end

-- Applies the action; the job was removed from `from`, or is removed here. Returns why not, or nothing.
local function apply(step)
  local id, key, job = step.id, step.key, step.job
  if verb == 'cancel' then
    call('HSET', key, 'status', 'canceled')
    call('ZADD', canceled, now_s, id)
    leave_limit(id, job)
  elseif listed then -- the job keeps its slot in the rate limit
    call('HSET', key, 'origin', target, 'enqueued_at', now)
    call('RPUSH', into, id)
    know(into)
  else
    local why = enqueue(id, key, job, target ~= '' and target or job.origin or queue, step.parents)
    if why then return why end
    if reset then call('HDEL', key, 'number_of_retries') end
  end
  if step.from then call('ZREM', step.from, id) end
  leave(id, step.parents)
end

local answers, ready, of = {}, {}, {}
for n = 2, #KEYS do
  local arg = n * 3 + 6
  local step = {id = ARGV[arg], stamp = ARGV[arg + 1], at = tonumber(ARGV[arg + 2]), key = KEYS[n]}
  answers[n - 1] = check(step) or 'done'
  if answers[n - 1] == 'done' then
    if listed then
      ready[#ready + 1] = step
      of[#ready] = n - 1
    else
      answers[n - 1] = apply(step) or 'done'
    end
  end
end
if #ready > 0 then take_out(from, ready, before) end
for n, step in ipairs(ready) do
  answers[of[n]] = not step.out and LOST or apply(step) or 'done'
end
return answers
