-- Processes of one namespace and their running jobs. ARGV: namespace with its colon, or ''; then identities, none = the
-- first ones.
-- Returns {{identity, {info, concurrency, busy, beat, quiet, rss, rtt_us}, false if it died, or an error, {thread id,
-- work...}, or false if it cannot be read}...}, {identity that was left out for lack of room...}, how many there are or an
-- error, how many were listed.
local namespace = ARGV[1]

local function whole(identity, key, room)
  local fields = fields_of(key, room, 'info', 'concurrency', 'busy', 'beat', 'quiet', 'rss', 'rtt_us')
  local work = work_of(key, room)
  local running = work and {}
  for n = 1, work and #work - 1 or 0, 2 do
    running[#running + 1] = string.sub(work[n], 1, 200)
    running[#running + 1] = work[n + 1] and #work[n + 1] <= LIMIT and work[n + 1] or '{"queue":""}'
  end
  return {string.sub(identity, 1, 1000), (failed(fields) or fields[1]) and fields, running or false}
end

local identities, count = {unpack(ARGV, 2)}, 0
if #identities == 0 then identities, count = some(namespace .. 'processes') end
local rows, left = rows_of(namespace, identities, whole)
return {rows, left, count, #identities}
