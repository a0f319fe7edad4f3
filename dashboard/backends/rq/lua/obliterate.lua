-- Removes a queue, some jobs at a time. KEYS: the queue's list. ARGV: prefix, queue, most jobs of one call.
-- Returns 'done', 'more', 'gone' or why not.
local call = redis.call
local prefix, queue, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if call('SISMEMBER', prefix .. ':queues', KEYS[1]) == 0 and call('EXISTS', KEYS[1]) == 0 then return 'gone' end
if call('ZCARD', prefix .. ':wip:' .. queue) > 0 then return 'jobs of it are running: wait until they end, or stop them' end
local lists = {KEYS[1]}
for _, name in ipairs({'scheduled', 'deferred', 'failed', 'finished', 'canceled'}) do
  lists[#lists + 1] = prefix .. ':' .. name .. ':' .. queue
end
for n, list in ipairs(lists) do
  while most > 0 do
    local id
    if n == 1 then id = call('LPOP', list) else id = call('ZPOPMIN', list)[1] end
    if not id then break end
    local key = prefix .. ':job:' .. id
    call('DEL', key, key .. ':dependents', prefix .. ':job::' .. id .. ':dependencies', prefix .. ':results:' .. id)
    most = most - 1
  end
  if most <= 0 then return 'more' end
end
call('SREM', prefix .. ':queues', KEYS[1])
return 'done'
