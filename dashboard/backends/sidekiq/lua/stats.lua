-- The figures of one namespace and of some of its queues.
-- ARGV[1]: namespace with its colon, or ''; ARGV[2]: '1' when the sets of all queues are wanted; then queue names.
-- Returns {{length, when its next job was enqueued or false, 1 where that was not read for want of room}... per queue,
-- {schedule, retry, dead sizes, earliest schedule score, earliest retry score} or false,
-- {{info, concurrency, {queue of each running job...}} per live process}, {paused queues...}}.
local namespace = ARGV[1]

local function enqueued_at(text)
  local job = decoded(text)
  local at = job and (job.enqueued_at or job.created_at)
  return type(at) == 'number' and string.format('%.6f', at) or false
end

local HEADS_BYTES, WORK_BYTES = 4194304, 8388608
local queues, read_bytes = {}, 0
for i = 3, #ARGV do
  local key = namespace .. 'queue:' .. ARGV[i]
  local size = read('LLEN', key)
  local head = filled(size) and read_bytes < HEADS_BYTES and read('LINDEX', key, -1)
  if head then read_bytes = read_bytes + #head end
  queues[#queues + 1] = {size, head and enqueued_at(head), filled(size) and not head and 1}
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

local processes, room = {}, {WORK_BYTES}
for _, identity in ipairs(ARGV[2] == '1' and some(namespace .. 'processes') or {}) do
  local key = namespace .. identity
  local fields = fields_of(key, 'info', 'concurrency')
  if fields[1] then
    local running = {}
    local work = work_of(key, room)
    for n = 2, #work, 2 do running[#running + 1] = queue_of(work[n]) or '' end
    processes[#processes + 1] = {fields[1], fields[2], running}
  end
end
return {queues, sets, processes, some(namespace .. 'paused')}
