-- Shared by all scripts that move jobs. `base` is `<prefix>:<queue>:`. The meaning of a queue's keys depends on the
-- release that its app runs. Only `meta` records it, so it is read in the same script that moves the job.
local call = redis.call

-- Why a queue is read-only: the meaning of its keys is only known for these releases, by their name; nil if it can be
-- changed. A queue without a version belongs to Bull, or to a BullMQ that did not write one yet.
local NEWEST = 6
local function foreign(base)
  local version = call('HGET', base .. 'meta', 'version')
  if not version then return nil end
  local major = tonumber(string.match(version, '^bullmq:(%d+)%.') or '')
  if major and major >= 1 and major <= NEWEST then return nil end
  local shown = string.gsub(string.sub(version, 1, 60), ':', ' ', 1)
  return 'unsupported|not supported: this queue belongs to ' .. shown .. '; Queuedeck reads it but does not change it'
end

-- The type that each key of a queue must have, if it exists. A script that fails halfway does not roll back its writes.
local TYPES = {
  {'meta', 'hash'}, {'wait', 'list'}, {'paused', 'list'}, {'active', 'list'}, {'prioritized', 'zset'}, {'delayed', 'zset'},
  {'waiting-children', 'zset'}, {'completed', 'zset'}, {'failed', 'zset'}, {'marker', 'zset'}, {'priority', 'zset'},
  {'repeat', 'zset'}, {'stalled', 'set'}, {'events', 'stream'}, {'id', 'string'}, {'pc', 'string'},
}
local COUNTERS = {'id', 'pc'}
local SAY = '; nothing was changed. Inspect the key with redis-cli'

local function wrong_type(key, wanted)
  local found = call('TYPE', key).ok
  if found ~= 'none' and found ~= wanted then return 'is a ' .. found .. ', not a ' .. wanted .. SAY end
end

-- While a Redis Cluster moves the hash slot of a queue to another node, some of its keys are here and some are there. A
-- key that does not exist then raises an error: before the first write, so that a script does all or nothing.
local function refuse_moving(base)
  call('EXISTS', base .. '\0queuedeck')
end

local function why_unwritable(base)
  refuse_moving(base)
  for _, each in ipairs(TYPES) do
    local why = wrong_type(base .. each[1], each[2])
    if why then return 'the key "' .. each[1] .. '" of this queue ' .. why end
  end
  for _, name in ipairs(COUNTERS) do
    local value = call('GETRANGE', base .. name, 0, 20)
    if value ~= '' and not string.match(value, '^-?%d+$') then
      return 'the key "' .. name .. '" of this queue is not an integer' .. SAY
    end
  end
  return foreign(base)
end

local looked_at = {}

-- Why a queue must not be changed; nil if it can be.
local function unwritable(base)
  if looked_at[base] == nil then looked_at[base] = why_unwritable(base) or false end
  return looked_at[base] or nil
end

-- The same reply for each of `count` jobs.
local function for_each(count, answer)
  local answers = {}
  for n = 1, count do answers[n] = answer end
  return answers
end

-- 'six', 'five', 'four', 'three', 'old' (before 6, release unknown) or 'bull'; for queues that are not foreign.
local function generation(base)
  local meta = call('HMGET', base .. 'meta', 'version', 'opts.maxLenEvents')
  local major = meta[1] and tonumber(string.match(meta[1], '^bullmq:(%d+)%.') or '')
  if major then
    if major >= 6 then return 'six' end
    return ({[5] = 'five', [4] = 'four'})[major] or 'three'
  end
  return meta[2] and 'old' or 'bull'
end

local function paused(base, kind)
  if kind == 'bull' then return call('EXISTS', base .. 'meta-paused') == 1 end
  return call('HEXISTS', base .. 'meta', 'paused') == 1
end

-- The list of waiting jobs: only before 6 it is another one while the queue is paused.
local function target(base, kind)
  if kind ~= 'six' and paused(base, kind) then return base .. 'paused' end
  return base .. 'wait'
end

local function event(base, kind, ...)
  if kind == 'bull' then return end
  local most = string.match(call('HGET', base .. 'meta', 'opts.maxLenEvents') or '', '^%d%d?%d?%d?%d?%d?%d?%d?%d?$') or 10000
  call('XADD', base .. 'events', 'MAXLEN', '~', most, '*', ...)
end

-- Wake a worker that waits for jobs, as the release does it; none if no job may start.
local function wake(base, kind, id)
  if kind == 'bull' then
    call('PUBLISH', base .. 'waiting@queuedeck', id)
    return
  end
  if kind == 'four' or kind == 'three' or paused(base, kind) then return end
  local most = tonumber(call('HGET', base .. 'meta', 'concurrency') or '')
  if most and call('LLEN', base .. 'active') >= most then return end
  call('ZADD', base .. 'marker', 0, '0')
end

-- The wake-up marker of 4.x is in the list itself, before newly added jobs.
local function without_marker(list)
  local head = call('LINDEX', list, 0)
  if head and string.sub(head, 1, 2) == '0:' then call('LPOP', list) end
end

local function prioritize(base, kind, id, priority)
  local score = priority * 0x100000000 + call('INCR', base .. 'pc') % 0x100000000
  call('ZADD', base .. 'prioritized', score, id)
  if kind == 'four' and not paused(base, kind) and call('LLEN', base .. 'wait') == 0 then
    call('LPUSH', base .. 'wait', '0:0')
  end
end

-- The command that puts a job of these options, as JSON, among those that wait: with `lifo` it is the next to run.
local function push_of(opts)
  if not opts or not string.find(opts, '"lifo"%s*:%s*true') then return 'LPUSH' end
  local read, decoded = pcall(cjson.decode, opts)
  if read and type(decoded) == 'table' and decoded.lifo ~= true then return 'LPUSH' end -- it is nested deeper in the options
  return 'RPUSH'
end

-- Add a job to the waiting jobs. `honest` = by its priority, if it has one.
local function enqueue(base, kind, id, priority, push, honest)
  if honest and priority > 0 then
    prioritize(base, kind, id, priority)
  else
    local list = target(base, kind)
    without_marker(list)
    call(push, list, id)
  end
  wake(base, kind, id)
end

local function priority_of(key)
  return tonumber(call('HGET', key, 'priority') or '') or 0
end

local function lock_of(key)
  return call('EXISTS', key .. ':lock') == 1
end

-- Whether a job is the next run of a schedule: removing it would silently end the schedule. The time in its id is the
-- score of its schedule, which its hash names; before 5.0, and in Bull, only its options can.
local function next_run(base, key, id)
  local at = string.match(id, '^repeat:.*:(%d+)$')
  if not at then return false end
  local fields = call('HMGET', key, 'rjk', 'name')
  if fields[1] then
    local score = redis.pcall('ZSCORE', base .. 'repeat', fields[1])
    return type(score) == 'string' and tonumber(score) == tonumber(at)
  end
  local own = options_of(key)['repeat']
  if type(own) ~= 'table' then return false end
  local members = redis.pcall('ZRANGEBYSCORE', base .. 'repeat', at, at, 'LIMIT', 0, SCHEDULES)
  for _, member in ipairs(members) do
    if made_by(member, fields[2] or '__default__', own) then return true end
  end
  return false
end

local function is_hash(key)
  return call('TYPE', key).ok == 'hash'
end

local PARTS = {'', ':logs', ':dependencies', ':processed', ':failed', ':unsuccessful'}

-- Changes when a job changes; for a parent also when one of its children finishes.
local function signature(key, name)
  if name ~= 'waiting-children' then return redis.sha1hex(call('DUMP', key) or '') end
  local dumps = {}
  for n, part in ipairs({'', ':dependencies', ':processed'}) do dumps[n] = call('DUMP', key .. part) or '' end
  return redis.sha1hex(table.concat(dumps))
end

-- The ways to split `<prefix>:<queue>:<id>`: {start up to and including a colon, the rest}, shortest ids first. Ids,
-- prefixes and the names of old queues can contain colons.
local DIVISIONS = 20
local function divisions(key)
  local found, at = {}, #key
  while at > 1 and #found < DIVISIONS do
    if string.sub(key, at, at) == ':' then found[#found + 1] = {string.sub(key, 1, at), string.sub(key, at + 1)} end
    at = at - 1
  end
  return found
end

-- The parent of a job: its key, the prefix of its queue's keys, its id; the last two are nil if unknown.
local function parent_of(key)
  local fields = call('HMGET', key, 'parentKey', 'parent')
  local parent = fields[1]
  if not parent or parent == '' then return nil end
  local readable, own = pcall(cjson.decode, fields[2] or '')
  if readable and type(own) == 'table' and type(own.queueKey) == 'string' and text_of(own.id) then
    if own.queueKey .. ':' .. text_of(own.id) == parent then return parent, own.queueKey .. ':', text_of(own.id) end
  end
  for _, each in ipairs(divisions(parent)) do
    if type(redis.pcall('ZSCORE', each[1] .. 'waiting-children', each[2])) == 'string' then
      return parent, each[1], each[2]
    end
  end
  return parent
end

local function elsewhere_in_cluster(key)
  local reply = redis.pcall('EXISTS', key)
  return type(reply) == 'table' and reply.err and string.find(reply.err, 'non local key', 1, true) ~= nil
end

-- Why the parent of a job must not be changed; nil if there is none, or if it can be.
local function foreign_parent(key)
  local parent, base = parent_of(key)
  if not parent then return nil end
  if elsewhere_in_cluster(parent) then return 'its parent is on another node of the Redis Cluster' end
  for _, each in ipairs({{'', 'hash'}, {':dependencies', 'set'}, {':processed', 'hash'}, {':failed', 'hash'},
    {':unsuccessful', 'zset'}}) do
    local why = wrong_type(parent .. each[1], each[2])
    if why then return 'a key of its parent ' .. why end
  end
  local bases = base and {{base}} or divisions(parent)
  for _, each in ipairs(bases) do
    if base or redis.pcall('TYPE', each[1] .. 'meta').ok == 'hash' then
      local why = unwritable(each[1])
      if why then return (string.gsub(why, 'this queue', 'the queue of its parent')) end
    end
  end
end

-- Release a parent that has no other children to wait for, as the library does it.
local function release(key)
  local parent, base, id = parent_of(key)
  if not parent or call('SREM', parent .. ':dependencies', key) == 0 then return end
  if not base or call('SCARD', parent .. ':dependencies') > 0 then return end
  if call('ZREM', base .. 'waiting-children', id) == 0 then return end
  local its = generation(base)
  call('RPUSH', target(base, its), id)
  wake(base, its, id)
  event(base, its, 'event', 'waiting', 'jobId', id, 'prev', 'waiting-children')
end

-- Delete what a removed job leaves for the next one with its deduplication id: the key that blocks it, and the job held
-- back until then.
local function forget_duplicates(base, id, dedup)
  if not dedup or redis.pcall('GET', base .. 'de:' .. dedup) ~= id then return end
  call('DEL', base .. 'de:' .. dedup, base .. 'dn:' .. dedup)
end

-- The list that contains a job; 'far' if a list is too long to search; nil for none.
local FAR = 1000000
local function stands_at(base, id)
  for _, name in ipairs({'failed', 'completed', 'delayed', 'prioritized', 'waiting-children'}) do
    if type(redis.pcall('ZSCORE', base .. name, id)) == 'string' then return name end
  end
  local far
  for _, name in ipairs({'active', 'wait', 'paused'}) do
    if call('TYPE', base .. name).ok == 'list' then
      if call('LPOS', base .. name, id, 'MAXLEN', FAR) then return name end
      if call('LLEN', base .. name) > FAR then far = 'far' end
    end
  end
  return far
end

-- Whether a job in `active` without a lock may be about to be locked: before 5.0, and in Bull, a worker picks up a job
-- first and locks it then. A job that has started, or no longer exists, is not.
local function being_taken(kind, key)
  return kind ~= 'six' and kind ~= 'five' and is_hash(key) and call('HEXISTS', key, 'processedOn') == 0
end
