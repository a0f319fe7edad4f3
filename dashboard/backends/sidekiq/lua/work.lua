-- The processes of one namespace and what they run. ARGV[1]: namespace with its colon, or ''.
-- Returns per identity {identity, {info, concurrency, busy, beat, quiet, rss, rtt_us} or false when it died,
-- {thread id, {work, its length}...}}.
local namespace = ARGV[1]
local processes, room = {}, {8388608}
for _, identity in ipairs(some(namespace .. 'processes')) do
  local key = namespace .. identity
  local fields = fields_of(key, 'info', 'concurrency', 'busy', 'beat', 'quiet', 'rss', 'rtt_us')
  local alive = fields[1] and true or false
  local running = {}
  local work = work_of(key, room)
  for n = 1, #work - 1, 2 do
    running[#running + 1] = string.sub(work[n], 1, 200)
    running[#running + 1] = work[n + 1] and #work[n + 1] <= LIMIT and work[n + 1] or '{"queue":""}'
  end
  processes[#processes + 1] = {string.sub(identity, 1, 1000), alive and fields, running}
end
return processes
