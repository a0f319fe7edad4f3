-- Deletes jobs that did not change since their backup. KEYS: the list or sorted set they are in, then the hash of each.
-- ARGV after those of writing.lua: 'list', 'zset' or 'none', the statuses they may have, '1' if the stamp is the finish
-- time, how many were removed earlier, then id, stamp ('' = any), mark ('' = any), score ('' = any), number of dependents
-- ('' = any) and position ('' in a set) of each, front first. Returns an outcome per job, as in move.lua.
local from, kind, states, ended, before = KEYS[1], ARGV[5], ' ' .. ARGV[6] .. ' ', ARGV[7] == '1', tonumber(ARGV[8])
-- 'none': the jobs are in no list; then the first key is the list of the queue.
local listed, stray = kind == 'list', kind == 'none'
local refused = may(listed and 'LREM' or 'ZREM', listed and 'LSET' or 'ZREM') or wrong(from, stray and 'list' or kind)
local deleted = try('DEL', prefix .. ':job:\0queuedeck')
if refused or failed(deleted) then return refused or deleted end
local scheduler = from == prefix .. ':scheduled:' .. queue and call('EXISTS', prefix .. ':scheduler-lock:' .. queue) == 1
local ALTERED = 'changed|it changed since you saw it'

local function check(step)
  local job, why = read(step.key)
  step.job, step.from, step.parents = job or {}, from, parents_of(step.id)
  if stray then
    if not job then return why end
  elseif not listed then
    if job and job.status == 'rate_limited' then step.from = prefix .. ':rl:' .. (job.rate_limit_key or '') .. ':rate_limited' end
    local score = try('ZSCORE', step.from, step.id)
    if type(score) ~= 'string' then return job and NOT_LISTED or why end
    if step.score ~= '' and score ~= step.score then return ALTERED end
    if scheduler and tonumber(score) <= now_s + 1 then return 'it is due; RQ\'s scheduler is enqueuing it now' end
  end
  if not job then return step.mark ~= why and why or nil end
  why = differs(job, states, ended, step.stamp) or stray and unlisted(from, step.id, job)
  if why then return why end
  if runs(step.id) then return RUNS end
  if not step.parents then return 'it depends on too many jobs' end
  step.waiters = try('SCARD', step.key .. ':dependents')
  if failed(step.waiters) then step.waiters = 0 end
  if step.count ~= '' and step.waiters ~= tonumber(step.count) then return ALTERED end
  if step.mark ~= '' then
    local dump = call('DUMP', step.key)
    if #dump .. string.sub(dump, -8) ~= step.mark then return ALTERED end
  end
end

local function apply(step)
  local id, key, job = step.id, step.key, step.job
  if stray then forget_taken(from, id, job) elseif not listed then call('ZREM', step.from, id) end
  leave(id, step.parents or {})
  if job.group_id then try('SREM', prefix .. ':group:' .. job.group_id, id) end
  if step.mark ~= NO_JOB then
    call('DEL', key, key .. ':dependents', prefix .. ':job::' .. id .. ':dependencies', prefix .. ':results:' .. id)
    -- The executions of a job show that it holds a slot of its rate limit. Those of other jobs belong to lost workers.
    if not job.rate_limit_key then call('DEL', prefix .. ':executions:' .. id) end
  end
  leave_limit(id, job)
  try('ZADD', AWAY, now_s, key)
  if (step.waiters or 0) == 0 then return 'done' end
  return 'done|dependent jobs that stay deferred: ' .. step.waiters .. '; RQ no longer enqueues them'
end

local away_kind = call('TYPE', AWAY).ok
if away_kind ~= 'zset' and away_kind ~= 'none' then try('DEL', AWAY) end -- written by another program under our name
local answers, ready, of = {}, {}, {}
for n = 2, #KEYS do
  local arg = n * 6 - 3
  local step = {
    id = ARGV[arg], stamp = ARGV[arg + 1], mark = ARGV[arg + 2], score = ARGV[arg + 3], count = ARGV[arg + 4],
    at = tonumber(ARGV[arg + 5]), key = KEYS[n],
  }
  answers[n - 1] = check(step) or 'done'
  if answers[n - 1] == 'done' then
    if listed then
      ready[#ready + 1] = step
      of[#ready] = n - 1
    else
      answers[n - 1] = apply(step)
    end
  end
end
try('ZREMRANGEBYSCORE', AWAY, '-inf', now_s - AWAY_S)
try('EXPIRE', AWAY, AWAY_S)
if #ready > 0 then take_out(from, ready, before) end
for n, step in ipairs(ready) do answers[of[n]] = step.out and apply(step) or LOST end
return answers
