-- Delete a queue, some jobs at a time. KEYS: meta. ARGV: base, maximum jobs per call.
-- Returns 'done', 'more', 'gone' or the reason why it was refused. The queue is paused first, so that no worker picks up
-- the remaining jobs.
local base, most = ARGV[1], tonumber(ARGV[2])
if call('EXISTS', base .. 'meta', base .. 'id') == 0 then return 'gone' end
refuse_moving(base)
local why = foreign(base)
if why then return why end
local kind = generation(base)

-- As the library does it: no parent must wait for a removed job, and nothing of it must block the jobs after it.
local function remove(id)
  local key = base .. id
  if is_hash(key) then
    local fields = call('HMGET', key, 'deid', 'parentKey')
    if fields[2] and not foreign_parent(key) then
      local _, its = parent_of(key)
      if its ~= base then release(key) end
    end
    forget_duplicates(base, id, fields[1])
  end
  for _, part in ipairs(PARTS) do call('DEL', key .. part) end
end
if call('TYPE', base .. 'active').ok == 'list' and call('LLEN', base .. 'active') > 0 then return 'it has running jobs: pause it and wait for them to finish' end
call('HSET', base .. 'meta', 'paused', 1)
if kind == 'bull' then call('SET', base .. 'meta-paused', 1) end
call('DEL', base .. 'marker')
for _, name in ipairs({'wait', 'paused', 'prioritized', 'delayed', 'waiting-children', 'failed', 'completed'}) do
  local list, set = call('TYPE', base .. name).ok == 'list', call('TYPE', base .. name).ok == 'zset'
  while most > 0 and (list or set) do
    local id
    if list then id = call('LPOP', base .. name) else id = call('ZPOPMIN', base .. name)[1] end
    if not id then break end
    remove(id)
    most = most - 1
  end
  if most <= 0 then return 'more' end
end
if call('TYPE', base .. 'repeat').ok == 'zset' then
  for _, id in ipairs(call('ZRANGE', base .. 'repeat', 0, 99)) do
    call('DEL', base .. 'repeat:' .. id)
    call('ZREM', base .. 'repeat', id)
  end
  if call('EXISTS', base .. 'repeat') == 1 then return 'more' end
end
-- Whatever is left under these names does not belong to the library.
for _, name in ipairs({'wait', 'paused', 'active', 'prioritized', 'delayed', 'waiting-children', 'failed', 'completed', 'repeat'}) do
  call('DEL', base .. name)
end
for _, name in ipairs({'id', 'pc', 'events', 'limiter', 'stalled', 'stalled-check', 'priority', 'meta-paused',
  'metrics:completed', 'metrics:completed:data', 'metrics:failed', 'metrics:failed:data', 'meta'}) do
  call('DEL', base .. name)
end
return 'done'
