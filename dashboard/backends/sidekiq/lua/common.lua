-- Shared by all scripts that only read. Every value is cut before it leaves the server.
local LIMIT, DECODE_LIMIT = 65536, 4194304
local SAMPLE = LIMIT / 2
-- The reply to a command; an error is a value like any other.
local read = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

local function filled(size)
  return type(size) == 'number' and size > 0
end

local function decoded(text)
  if type(text) ~= 'string' or #text > DECODE_LIMIT then return nil end
  local fine, value = pcall(cjson.decode, text)
  if fine and type(value) == 'table' then return value end
  return nil
end

-- As `stamp_of` in entry.py tells it.
local function stamp_of(text)
  if #text <= LIMIT then return string.sub(redis.sha1hex(text), 1, 20) end
  local sample = string.sub(text, 1, SAMPLE) .. string.sub(text, -SAMPLE)
  return string.sub(redis.sha1hex(sample), 1, 20) .. '-' .. #text
end

-- {payload, its length, its stamp where it was cut}: a long one without its arguments and backtrace, a longer one not
-- at all.
local function entry(text)
  if type(text) ~= 'string' then return {false, 0, false} end
  if #text <= LIMIT then return {text, #text, false} end
  local stamp = stamp_of(text)
  local job = decoded(text)
  if not job then return {string.sub(text, 1, 1024), #text, stamp} end
  job.args, job.error_backtrace = nil, nil
  for name, value in pairs(job) do
    if type(value) == 'string' then job[name] = string.sub(value, 1, 4096) end
    if type(value) == 'table' then job[name] = nil end
  end
  return {cjson.encode(job), #text, stamp}
end

-- Members of a small set: never more than a thousand or so.
local function some(key)
  local reply = read('SSCAN', key, 0, 'COUNT', 1000)
  if failed(reply) then return {} end
  return reply[2]
end

-- {thread id, work, ...} of a process; the key was called otherwise up to 6.4.1.
local function work_of(identity)
  local work = read('HGETALL', identity .. ':work')
  if not failed(work) and #work > 0 then return work end
  work = read('HGETALL', identity .. ':workers')
  if failed(work) then return {} end
  return work
end

local function queue_of(work)
  local head = string.match(string.sub(work, 1, 4096), '^{"queue":("[^"]*")')
  if head then
    local fine, name = pcall(cjson.decode, '[' .. head .. ']')
    if fine then return name[1] end
  end
  local job = decoded(work)
  return job and job.queue
end

-- The jid of a payload in which only one field of any depth is called so, and written plainly; false for others.
local function lone_jid(text)
  local _, stop = string.find(text, '"jid"', 1, true)
  if not stop or string.find(text, '"jid"', stop, true) then return false end
  return string.match(text, '^:"([%w_-]+)"', stop + 1) or false
end

-- Whether an entry may be one of `wanted`, names as job_id in entry.py makes them; true where its jid is written oddly.
local function may_be(text, wanted)
  if not string.find(text, '"jid"', 1, true) then return wanted['raw' .. stamp_of(text)] end
  local seen, from = false, 1
  while true do
    local _, stop = string.find(text, '"jid"', from, true)
    if not stop then return not seen end
    local jid = string.match(text, '^%s*:%s*"([^"\\\128-\255]+)"', stop + 1)
    if jid and wanted[jid] then return true end
    seen, from = seen or jid ~= nil, stop + 1
  end
end
