"""The Lua scripts of bulk operations; store/redis_store.py adds the functions that they share."""

from __future__ import annotations

from ..audit_chain import RECORD

# KEYS all, open, record, undo of, audit, its head. ARGV id, now, request, phase, lifetime, maximum open, maximum
# stored, whether it is an undo, event or "", prefix of the names of records. Returns {id, what `record` returned or 0};
# for an undo that is already running, the id of that one; 0 if too many operations are open.
CREATE = f"""{RECORD}
if ARGV[8] == '1' then
  local other = redis.call('GET', KEYS[4])
  local open = other and redis.call('SISMEMBER', KEYS[2], other) == 1
  if open and redis.call('EXISTS', sound(ARGV[10] .. other, 'h')) == 1 then return {{other, 0}} end
end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[6]) then return 0 end
local kept = ARGV[9] == '' and 0 or record(KEYS[5], KEYS[6], ARGV[9])
redis.call('HSET', KEYS[3], 'request', ARGV[3], 'phase', ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[5])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[1])
local surplus = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[7]))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[2]) - tonumber(ARGV[5]))
for _, ids in ipairs({{surplus, old}}) do
  for _, id in ipairs(ids) do
    if redis.call('SISMEMBER', KEYS[2], id) == 0 then
      redis.call('ZREM', KEYS[1], id)
      local record = ARGV[10] .. id
      for _, suffix in ipairs({{'', ':picks', ':rounds', ':canary', ':undo'}}) do
        if redis.call('TTL', record .. suffix) == -1 then redis.call('EXPIRE', record .. suffix, ARGV[5]) end
      end
    end
  end
end
if ARGV[8] == '1' then redis.call('SET', KEYS[4], ARGV[1], 'EX', ARGV[5]) end
return {{ARGV[1], kept}}
"""

# KEYS record, lease, all. ARGV holder, lease ms, id, now. Returns the record, 0 if the holder does not have the lease,
# -1 if the record no longer exists. Adds a running operation to the list again, in case the list was lost.
RENEW_LEASE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[3], 'NX', ARGV[4], ARGV[3])
return redis.call('HGETALL', KEYS[1])
"""

# KEYS record, lease, open, record of the operation whose deleted jobs are restored, batch starts, job refs, audit,
# canary results, head of the audit. ARGV holder, lease ms, expected phase, next phase or "", id, number of jobs
# restored, number of the first job of a batch or "", new lifetime of record, batch starts, job refs and canary results,
# event to record when it enters the next phase or "", then fields and values; a value is added to a field that starts
# with +, one that starts with = is the number of a canary result, and one that starts with > is only stored when it
# enters the next phase. Returns {phase, whether the event was due, what `record` returned or 0}, 0 if another process
# runs it, -1 if the record no longer exists.
WRITE_PROGRESS = f"""{RECORD}
if redis.call('HEXISTS', KEYS[1], 'phase') == 0 then return -1 end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local phase, recorded, kept = redis.call('HGET', KEYS[1], 'phase'), 0, 0
local enters = phase == ARGV[3] and ARGV[4] ~= ''
for n = 10, #ARGV, 2 do
  local kind, name = string.sub(ARGV[n], 1, 1), string.sub(ARGV[n], 2)
  if kind == '+' then add(KEYS[1], name, ARGV[n + 1])
  elseif kind == '=' then redis.call('HSET', KEYS[8], name, ARGV[n + 1])
  elseif kind ~= '>' then redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
  elseif enters then redis.call('HSET', KEYS[1], name, ARGV[n + 1]) end
end
if ARGV[7] ~= '' then redis.call('RPUSH', KEYS[5], ARGV[7]) end
for _, key in ipairs({{KEYS[1], KEYS[5], KEYS[6], KEYS[8]}}) do redis.call('EXPIRE', key, ARGV[8]) end
if tonumber(ARGV[6]) > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  add(KEYS[4], 'restored', ARGV[6])
end
if enters then
  redis.call('HSET', KEYS[1], 'phase', ARGV[4])
  phase = ARGV[4]
  if ARGV[9] ~= '' then recorded, kept = 1, record(KEYS[7], KEYS[9], ARGV[9]) end
end
if phase == 'done' or phase == 'failed' or phase == 'aborted' then redis.call('SREM', KEYS[3], ARGV[5]) end
return {{phase, recorded, kept}}
"""

# Pause, resume, abort, approve or reject by a user. KEYS record, open, audit, its head. ARGV id, next phase ('' = the
# one before the pause, or after the approval), now, event or "", who approves or "", note or "", phases in which this
# is allowed. Returns {the phase after it, whether it changed, what `record` returned or 0}, 0 if the record no longer
# exists.
CHANGE_PHASE = f"""{RECORD}
local phase = redis.call('HGET', KEYS[1], 'phase')
if not phase then return 0 end
for n = 7, #ARGV do
  if phase == ARGV[n] then
    local to = ARGV[2]
    local kept = ARGV[4] == '' and 0 or record(KEYS[3], KEYS[4], ARGV[4])
    if to == 'paused' then redis.call('HSET', KEYS[1], 'before', phase) end
    if to == '' then to = redis.call('HGET', KEYS[1], 'before') or 'running' end
    redis.call('HSET', KEYS[1], 'phase', to)
    redis.call('HDEL', KEYS[1], 'note')
    if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'approved_by', ARGV[5]) end
    if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'note', ARGV[6]) end
    if to == 'aborted' then
      redis.call('HSET', KEYS[1], 'ended_at', ARGV[3])
      redis.call('SREM', KEYS[2], ARGV[1])
    end
    return {{to, 1, kept}}
  end
end
return {{phase, 0, 0}}
"""

# KEYS job refs, lease. ARGV holder, lifetime, then values. Returns 0 if the holder does not have the lease.
STORE_JOB_REFS = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
for n = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[n]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS all, open. ARGV prefix of the names of records. Adds unfinished operations to the open ones: that set was lost.
REOPEN = """
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local phase = redis.call('HGET', sound(ARGV[1] .. id, 'h'), 'phase')
  if phase and phase ~= 'done' and phase ~= 'failed' and phase ~= 'aborted' then redis.call('SADD', KEYS[2], id) end
end
return 1
"""

# KEYS lease. ARGV holder, lease ms. Returns 1, or 0 if another process holds it.
ACQUIRE_LEASE = """
begin(KEYS[1], ARGV[2])
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""

# KEYS record, open. ARGV id, lifetime of a record that cannot be read. Returns 1 if the record no longer exists, or 0.
FORGET = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  if redis.call('TTL', KEYS[1]) == -1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
  return 0
end
redis.call('SREM', KEYS[2], ARGV[1])
return 1
"""

# KEYS record. ARGV number of jobs restored.
ADD_RESTORED = """
if redis.call('EXISTS', KEYS[1]) == 1 then add(KEYS[1], 'restored', ARGV[1]) end
return 1
"""

# KEYS lease. ARGV holder. Returns 1, or 0 if another process holds it.
RELEASE_LEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
