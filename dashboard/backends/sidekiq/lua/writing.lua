-- Shared by all scripts that move jobs. What could fail for want of permission, for a wrong type or for memory is tried
-- before a job is taken out of where it stands, so that none is ever lost half way. Outcomes per job, in order:
local DONE, GONE, CHANGED = 1, 0, 2 -- or the text of the error for which it was refused
local LIMIT, SAMPLE = 65536, 32768
local NOBODY = '\0queuedeck'
-- Deletions are remembered as long as the bin may hold what was deleted.
local REMEMBER_S = 90000
local try = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

local function stamp_of(text)
  if #text <= LIMIT then return string.sub(redis.sha1hex(text), 1, 20) end
  local sample = string.sub(text, 1, SAMPLE) .. string.sub(text, -SAMPLE)
  return string.sub(redis.sha1hex(sample), 1, 20) .. '-' .. #text
end

-- Raises where members may not be taken out of this set.
local function may_remove(key)
  redis.call('ZREM', key, NOBODY)
end

-- nil when `member` stands in the set at `score`; else the outcome.
local function not_at(key, member, score)
  local found = redis.call('ZSCORE', key, member)
  if not found then return GONE end
  if tonumber(found) ~= tonumber(score) then return CHANGED end
  return nil
end

-- Raises where deletions may not be remembered; forgets some that are too old.
local function may_remember(marks, now)
  redis.call('ZADD', marks, now, NOBODY)
  redis.call('ZREM', marks, NOBODY)
  local old = redis.call('ZRANGEBYSCORE', marks, '-inf', now - REMEMBER_S, 'LIMIT', 0, 500)
  if #old > 0 then redis.call('ZREM', marks, unpack(old)) end
end

local function remember(marks, now, token)
  redis.call('ZADD', marks, now, token)
  try('EXPIRE', marks, REMEMBER_S)
end

-- Takes one entry, expected at `place` from the served end, out of a list of `size`. DONE or GONE, and it costs no more
-- than a look from there to the nearer end: entries only move towards the served end, but for the few that a stopped
-- process puts back (SLACK).
local SLACK = 1000
local function take_out(key, text, place, size)
  if place > size - place then return redis.call('LREM', key, 1, text) == 1 and DONE or GONE end
  local at = redis.call('LPOS', key, text, 'RANK', -1, 'MAXLEN', place + 1 + SLACK)
  if not at then return GONE end
  return redis.call('LREM', key, -1, text) == 1 and DONE or GONE
end

-- Puts a payload into its queue; nil, or the text of the error for which nothing was done.
local named = {}
local function push(queues, name, list, payload)
  local pushed = try('LPUSH', list, payload)
  if failed(pushed) then return pushed.err end
  if not named[list] then
    named[list] = true
    try('SADD', queues, name)
  end
  return nil
end
