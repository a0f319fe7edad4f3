-- Shared by the scripts that act on jobs, and prepended to each of them. ARGV[1]: the prefix, ARGV[2]: the queue's own
-- name, ARGV[3]: now in RQ's time format, ARGV[4]: now in seconds.
-- The keys of related objects (parents, group, rate limit, origin) are built from the job's data, which a single Redis
-- server allows.
local call, try = redis.call, redis.pcall
local prefix, queue, now, now_s = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local queues = prefix .. ':queues'
local LONGEST = 1024 -- maximum bytes of a field that RQ itself keeps short
local SMALL = 64 * 1024 -- bytes up to which the fields of a job need not be measured
local MANY = 1000 -- maximum relations of one job that a script follows
local NO_JOB = 'its key does not hold an RQ job'
-- Our sorted set of the keys of deleted jobs that can be restored, by time of deletion: RQ also removes finished jobs.
local AWAY, AWAY_S = '{queuedeck}:away', 90000
local RUNS = 'a worker is still running it, or is just finishing it'
local NO_STATUS = 'its status is not one of RQ\'s'
local NOT_LISTED = 'changed|it is no longer in this list'
local LOST = 'lost' -- not at its last position in a long list: to be searched for again

-- Returns an outcome for a job of another queue: scripts that look in no list find it by its id alone.
local function elsewhere(job)
  if job.origin and job.origin ~= queue then return NOT_LISTED end
end

local function failed(reply) return type(reply) == 'table' and reply.err end

-- Returns the error of a command that the user may not run or the server cannot accept, before anything is changed: each
-- is tried on the set of queues, where a permitted command fails because of the type of the key.
local PROBES = {
  HSET = {'x', 'x'}, HDEL = {'x'}, RPUSH = {'x'}, LPUSH = {'x'}, LREM = {1, 'x'}, LSET = {0, 'x'}, ZADD = {1, 'x'}, ZREM = {'x'}, PERSIST = {},
}
local function may(...)
  if call('TYPE', queues).ok ~= 'set' then return end
  for _, name in ipairs({...}) do
    local reply = try(name, queues, unpack(PROBES[name]))
    if failed(reply) and not string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
  end
end

-- Returns an error if a key exists with another type.
local function wrong(key, kind)
  local found = call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then return redis.error_reply('WRONGTYPE ' .. key .. ' holds a ' .. found) end
end

local FIELDS = {
  'status', 'created_at', 'enqueued_at', 'ended_at', 'origin', 'ttl', 'rate_limit_key', 'rate_limit_concurrency', 'group_id',
}

local STATUSES = ' created queued started finished failed deferred scheduled stopped canceled rate_limited ready_to_enqueue '

-- Returns an error if a field may be too long to read. Checks the total size first, which is cheap for small hashes.
local function swollen(key, length)
  local bytes = length <= MANY and try('MEMORY', 'USAGE', key, 'SAMPLES', 0)
  if type(bytes) == 'number' and bytes <= SMALL then return end
  for _, name in ipairs(FIELDS) do
    if call('HSTRLEN', key, name) > LONGEST then return 'its field ' .. name .. ' is too long to be a value of RQ\'s' end
  end
end

-- Returns the short fields of a job by name, without empty ones and without a status that is not one of RQ's; or nil and
-- the outcome that says why there are none.
local function read(key)
  local length = try('HLEN', key)
  if failed(length) then return nil, string.find(length.err, 'WRONGTYPE', 1, true) and NO_JOB or length.err end
  if length == 0 then return nil, 'gone' end
  local why = swollen(key, length)
  if why then return nil, why end
  local values, job = call('HMGET', key, unpack(FIELDS)), {}
  for n, name in ipairs(FIELDS) do
    if values[n] and values[n] ~= '' then job[name] = values[n] end
  end
  if not string.find(STATUSES, ' ' .. (job.status or '') .. ' ', 1, true) then job.status = nil end
  return job
end

-- Returns an outcome if a job changed since it was seen. `states`: its statuses, as ' word word '; stamp '' = any.
local function differs(job, states, ended, stamp)
  if job.status and not string.find(states, ' ' .. job.status .. ' ', 1, true) then
    return 'changed|its status is now ' .. job.status
  end
  local found = ended and job.ended_at or job.enqueued_at or job.created_at
  if stamp ~= '' and found ~= stamp then return 'changed|it ' .. (ended and 'finished' or 'was enqueued') .. ' again since you saw it' end
end

-- Returns the number of running jobs of this queue whose workers send heartbeats.
local function running()
  local count = try('ZCOUNT', prefix .. ':wip:' .. queue, '(' .. now_s, '+inf')
  return failed(count) and 0 or count
end

-- Whether such a worker runs a job. RQ 1 stores plain ids, RQ 2 and later executions. Few queues have running jobs.
local any_runs
local function runs(id)
  if any_runs == nil then any_runs = running() > 0 end
  if not any_runs then return false end
  local wip = prefix .. ':wip:' .. queue
  local function beats(member)
    local score = call('ZSCORE', wip, member)
    return score and tonumber(score) > now_s
  end
  if beats(id) then return true end
  local executions = try('ZRANGE', prefix .. ':executions:' .. id, 0, 9)
  if failed(executions) then return false end
  for _, execution in ipairs(executions) do
    if beats(id .. ':' .. execution) then return true end
  end
  return false
end

-- Returns the ids that a job depends on; nil if there are too many to follow.
local function parents_of(id)
  local key = prefix .. ':job::' .. id .. ':dependencies'
  local count = try('SCARD', key)
  if failed(count) or count == 0 then return {} end
  return count <= MANY and call('SMEMBERS', key) or nil
end

-- Removes a job from the dependents of its parents; otherwise it would be enqueued again when they finish.
local function leave(id, parents)
  for _, parent in ipairs(parents) do try('SREM', prefix .. ':job:' .. parent .. ':dependents', id) end
end

-- Gives the free slots of a rate limit to the jobs waiting for one, oldest first, like RQ.
local function fill_slots(limit, most)
  for _ = 1, 100 do
    local taken = try('ZCARD', limit .. ':allowed')
    if failed(taken) or taken >= most then return end
    local id = call('ZPOPMIN', limit .. ':rate_limited')[1]
    if not id then return end
    local key = prefix .. ':job:' .. id
    local job = try('HMGET', key, 'origin', 'status', 'enqueue_at_front')
    if not failed(job) and job[1] and job[2] == 'rate_limited' then
      local push = job[3] == '1' and 'LPUSH' or 'RPUSH'
      call('ZADD', limit .. ':allowed', now_s, id)
      try(push, prefix .. ':queue:' .. job[1], id)
      call('HSET', key, 'status', 'queued', 'enqueued_at', now)
    end
  end
end

-- Releases the slot that a job holds in its rate limit, or its place among the jobs waiting for one.
local function leave_limit(id, job)
  if not job.rate_limit_key then return end
  local limit = prefix .. ':rl:' .. job.rate_limit_key
  local waited, held = try('ZREM', limit .. ':rate_limited', id), try('ZREM', limit .. ':allowed', id)
  if held == 1 then fill_slots(limit, tonumber(try('HGET', limit, 'concurrency') or '') or 0) end
  return waited
end

-- Sets the expiry of a waiting job, like RQ: the time to live of a failed job must not expire it in the queue.
local LONGEST_TTL = 1e11 -- seconds: Redis accepts no more, and RQ no fractions
local function keep(id, key, ttl, parents)
  local finite = ttl and ttl >= 1 and ttl <= LONGEST_TTL
  local function each(part)
    if finite then call('EXPIRE', part, string.format('%.0f', math.floor(ttl))) else call('PERSIST', part) end
  end
  each(key)
  each(key .. ':dependents')
  if #parents > 0 then each(prefix .. ':job::' .. id .. ':dependencies') end
end

-- Adds queues that receive jobs to RQ's directory.
local known = {}
local function know(line)
  if not known[line] then call('SADD', queues, line) end
  known[line] = true
end

-- Adds a job to those waiting for a slot of its rate limit, and fills free slots. Returns an error, or nothing.
local function queue_for_slot(id, key, job)
  local limit, most = prefix .. ':rl:' .. job.rate_limit_key, tonumber(job.rate_limit_concurrency or '')
  if not most then return 'its rate limit has no maximum number of jobs' end
  local added = try('ZADD', limit .. ':rate_limited', now_s, id)
  if failed(added) then return added.err end
  call('SADD', prefix .. ':rl-keys', job.rate_limit_key)
  call('HSET', limit, 'concurrency', most)
  call('HSET', key, 'status', 'rate_limited', 'enqueue_at_front', '0')
  fill_slots(limit, most)
end

-- Enqueues a job at the end of queue `name`, or through its rate limit if it has one. Returns an error, or nothing.
local function enqueue(id, key, job, name, parents)
  local line = prefix .. ':queue:' .. name
  if job.rate_limit_key then
    local why = wrong(line, 'list')
    if why then return why.err end
    call('HSET', key, 'origin', name, 'started_at', '', 'ended_at', '')
    why = queue_for_slot(id, key, job)
    if why then return why end
  else
    local pushed = try('RPUSH', line, id)
    if failed(pushed) then return pushed.err end
    call('HSET', key, 'origin', name, 'status', 'queued', 'enqueued_at', now, 'started_at', '', 'ended_at', '')
  end
  call('HDEL', key, 'exc_info')
  know(line)
  keep(id, key, tonumber(job.ttl or ''), parents)
end

-- Whether a live worker serves this queue; true if there are too many workers to check.
local function serves()
  local key = prefix .. ':workers:' .. queue
  local count = try('SCARD', key)
  if failed(count) or count > MANY then return true end
  for _, worker in ipairs(call('SMEMBERS', key)) do
    if call('EXISTS', worker) == 1 then return true end
  end
  return false
end

-- Returns why a job cannot be treated as one that is in no list: an outcome, or 'unsure' if a worker may be picking it up;
-- nil if it is in none.
-- While a live worker picks up a job, the job is in no list for some milliseconds. RQ itself allows a minute for this, and
-- so does this script: the first check records the time in our own sorted set; a check a minute later, within an hour,
-- counts.
local LONGEST_LINE, TAKEN_S, NOTED_S = 200000, 60, 3600
local MISSING = '{queuedeck}:missing'
local function unlisted(line, id, job)
  if job.origin and job.origin ~= queue then return 'changed|it belongs to another queue now' end
  local length = try('LLEN', line)
  if failed(length) then return length.err end
  if length > LONGEST_LINE then return 'its queue is too long to search in full, so the job may still be in it' end
  if call('LPOS', line, id) then return 'changed|it is in its queue' end
  for _, name in ipairs({'scheduled', 'deferred', 'ready', 'failed', 'finished', 'canceled', 'wip'}) do
    if type(try('ZSCORE', prefix .. ':' .. name .. ':' .. queue, id)) == 'string' then return 'changed|it is in a list' end
  end
  local executions = try('ZRANGE', prefix .. ':executions:' .. id, 0, 9)
  for _, execution in ipairs(failed(executions) and {} or executions) do
    if type(try('ZSCORE', prefix .. ':wip:' .. queue, id .. ':' .. execution)) == 'string' then return RUNS end
  end
  if job.rate_limit_key and type(try('ZSCORE', prefix .. ':rl:' .. job.rate_limit_key .. ':rate_limited', id)) == 'string' then
    return 'changed|it is waiting for its rate limit'
  end
  if string.find(' finished failed stopped canceled ', ' ' .. (job.status or '') .. ' ', 1, true) then return nil end
  if not serves() then return nil end
  local taken = type(try('LPOS', line .. ':intermediate', id)) == 'number'
  local seen = taken and try('GETRANGE', line .. ':intermediate:first_seen:' .. id, 0, 40)
  seen = type(seen) == 'string' and tonumber(seen)
  if seen and now_s - seen > TAKEN_S then return nil end
  local note = prefix .. ' ' .. id .. ' ' .. (job.enqueued_at or '')
  local kind = call('TYPE', MISSING).ok
  if kind ~= 'zset' and kind ~= 'none' then try('DEL', MISSING) end -- written by another program under our name
  local noted = try('ZSCORE', MISSING, note)
  local ago = type(noted) == 'string' and now_s - tonumber(noted) or NOTED_S
  if ago > TAKEN_S and ago < NOTED_S then return nil end
  if ago >= NOTED_S then
    try('ZREMRANGEBYSCORE', MISSING, '-inf', now_s - NOTED_S)
    local added = try('ZADD', MISSING, now_s, note)
    if failed(added) then return added.err end
    try('EXPIRE', MISSING, NOTED_S)
  end
  return 'unsure'
end

-- Removes the traces of a worker that picked up a job.
local function forget_taken(line, id, job)
  try('ZREM', MISSING, prefix .. ' ' .. id .. ' ' .. (job.enqueued_at or ''))
  try('LREM', line .. ':intermediate', 1, id)
  try('DEL', line .. ':intermediate:first_seen:' .. id)
end

-- Removes jobs from a list together. `jobs`: {id, its last known position from the front}, front first; `before`: how many
-- jobs were removed since. Marks the jobs found as `out`. Workers that pick up jobs from the front shift all positions
-- equally; a search nearby finds by how much. Entries are overwritten first, so that one walk from the nearer end removes
-- them.
local AROUND, LOOKS, TOMBSTONE = 150, 5, '\0taken out by queuedeck\0'
local function take_out(list, jobs, before)
  local length, drift, looks, near, far = call('LLEN', list), -before, LOOKS, 0, 0
  for _, job in ipairs(jobs) do
    local at = job.at + drift
    if at >= 0 and call('LINDEX', list, at) ~= job.id and looks > 0 then
      looks = looks - 1
      local first = math.max(0, at - AROUND)
      for n, id in ipairs(call('LRANGE', list, first, at + AROUND)) do
        if id == job.id then
          at = first + n - 1
          drift, looks = at - job.at, LOOKS
          break
        end
      end
    end
    if at >= 0 and call('LINDEX', list, at) == job.id then
      job.out = true
      call('LSET', list, at, TOMBSTONE)
      if at < length / 2 then near = near + 1 else far = far + 1 end
    end
  end
  if near > 0 then call('LREM', list, near, TOMBSTONE) end
  if far > 0 then call('LREM', list, -far, TOMBSTONE) end
end
