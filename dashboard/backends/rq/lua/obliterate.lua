-- Deletes a queue, some jobs at a time. KEYS: the queue's list. ARGV after those of writing.lua: maximum jobs per call.
-- Returns 'done', 'more', 'gone' or why it was refused.
local most = tonumber(ARGV[5])
local function of(name) return prefix .. ':' .. name .. ':' .. queue end
local sets = {'scheduled', 'deferred', 'ready', 'failed', 'finished', 'canceled', 'wip'}
local intermediate = KEYS[1] .. ':intermediate'
local there = call('SISMEMBER', queues, KEYS[1]) == 1 or call('EXISTS', KEYS[1], intermediate) > 0
for _, name in ipairs(sets) do there = there or call('EXISTS', of(name)) == 1 end
if not there then return 'gone' end
local refused = wrong(KEYS[1], 'list') or wrong(intermediate, 'list')
for _, name in ipairs(sets) do refused = refused or wrong(of(name), 'zset') end
if refused then return refused end
if running() > 0 then return 'it has running jobs; stop them or wait until they finish' end
if call('LLEN', intermediate) > 0 and call('SCARD', of('workers')) > 0 then return 'a worker has just picked up one of its jobs; try again' end

local function remove(id)
  local key = prefix .. ':job:' .. id
  local job, why = read(key)
  -- A job that moved to another queue only left its entry here; it is kept.
  if why == NO_JOB or job and job.origin and job.origin ~= queue then return end
  leave(id, parents_of(id) or {})
  job = job or {}
  if job.group_id then try('SREM', prefix .. ':group:' .. job.group_id, id) end
  call('DEL', key, key .. ':dependents', prefix .. ':job::' .. id .. ':dependencies', prefix .. ':results:' .. id)
  call('DEL', prefix .. ':executions:' .. id)
  leave_limit(id, job)
end

local function clear(pop, key)
  local ids = most > 0 and call(pop, key, most) or {}
  for n = 1, #ids, pop == 'ZPOPMIN' and 2 or 1 do
    local id = ids[n]
    if key == of('wip') and string.match(id, ':' .. string.rep('%x', 32) .. '$') then id = string.sub(id, 1, -34) end
    remove(id)
    most = most - 1
  end
end

clear('LPOP', KEYS[1])
clear('LPOP', intermediate)
for _, name in ipairs(sets) do clear('ZPOPMIN', of(name)) end
if most <= 0 then return 'more' end
call('SREM', queues, KEYS[1])
return 'done'
