-- The figures of one namespace and of some of its queues.
-- ARGV[1]: namespace with its colon, or ''; ARGV[2]: '1' when the sets of all queues are wanted; then queue names.
-- Returns {{length, when its next job was enqueued or false}... per queue,
-- {schedule, retry, dead sizes, earliest schedule score, earliest retry score} or false,
-- {{info, concurrency, {queue of each running job...}} per live process}, {paused queues...}}.
local namespace = ARGV[1]

local function enqueued_at(text)
  local job = decoded(text)
  local at = job and (job.enqueued_at or job.created_at)
  return type(at) == 'number' and string.format('%.6f', at) or false
end

local queues = {}
for i = 3, #ARGV do
  local key = namespace .. 'queue:' .. ARGV[i]
  local size = read('LLEN', key)
  queues[#queues + 1] = {size, filled(size) and enqueued_at(read('LINDEX', key, -1))}
end

local function earliest(key)
  local first = read('ZRANGE', key, 0, 0, 'WITHSCORES')
  return not failed(first) and first[2] or false
end

local sets = false
if ARGV[2] == '1' then
  sets = {
    read('ZCARD', namespace .. 'schedule'), read('ZCARD', namespace .. 'retry'), read('ZCARD', namespace .. 'dead'),
    earliest(namespace .. 'schedule'), earliest(namespace .. 'retry'),
  }
end

local processes = {}
for _, identity in ipairs(some(namespace .. 'processes')) do
  local key = namespace .. identity
  local fields = read('HMGET', key, 'info', 'concurrency')
  if not failed(fields) and fields[1] then
    local running = {}
    local work = work_of(key)
    for n = 2, #work, 2 do running[#running + 1] = queue_of(work[n]) or '' end
    processes[#processes + 1] = {string.sub(fields[1], 1, LIMIT), fields[2], running}
  end
end
return {queues, sets, processes, some(namespace .. 'paused')}
