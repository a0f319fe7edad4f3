-- Shared by all scripts that only read. Every value is cut before it leaves the server.
-- Longer ones than DECODE_LIMIT are never decoded, nor told by what stands in them: only by their stamp.
local LIMIT, DECODE_LIMIT = 65536, 4194304
local MOST_THREADS = 10000
-- The reply to a command; an error is a value like any other.
local read = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

local function filled(size)
  return type(size) == 'number' and size > 0
end

-- The JSON object of a text; nil for anything else, as an array, too much of it, or one that is nested too deeply.
local function decoded(text)
  if type(text) ~= 'string' or #text > DECODE_LIMIT or not string.find(text, '^%s*{') then return nil end
  local fine, value = pcall(cjson.decode, text)
  if fine and type(value) == 'table' then return value end
  return nil
end

-- {payload, its length, its stamp where it was cut}: a long one without its arguments and backtrace, a longer one not
-- at all.
local function entry(text)
  if type(text) ~= 'string' then return {false, 0, false} end
  if #text <= LIMIT then return {text, #text, false} end
  local stamp = stamp_of(text)
  local job = decoded(text)
  if not job then return {string.sub(text, 1, 1024), #text, stamp} end
  local short, left = {}, LIMIT
  for name, value in pairs(job) do
    if name ~= 'args' and name ~= 'error_backtrace' and #name <= 200 then
      if type(value) == 'string' then value = string.sub(value, 1, 4096) end
      -- What JSON cannot say again, as 1e999, is left out: an encoder raises.
      local said = type(value) == 'string' or type(value) == 'boolean'
        or (type(value) == 'number' and value == value and math.abs(value) < math.huge)
      left = left - #name - (type(value) == 'string' and #value or 20)
      if said and left > 0 then short[name] = value end
    end
  end
  local fine, shown = pcall(cjson.encode, short)
  return {fine and shown or string.sub(text, 1, 1024), #text, stamp}
end

-- Members of a small set: never more than a thousand or so.
local function some(key)
  local reply = read('SSCAN', key, 0, 'COUNT', 1000)
  if failed(reply) then return {} end
  return reply[2]
end

-- {thread id, work or false, ...} of a process; the key was called otherwise up to 6.4.1. `room` = {bytes left}.
local function work_of(identity, room)
  for _, name in ipairs({':work', ':workers'}) do
    local key, work = identity .. name, {}
    local size = read('HLEN', key)
    if filled(size) and size <= MOST_THREADS then
      for _, thread in ipairs(read('HKEYS', key)) do
        local value, length = short_field(key, thread, math.min(room[1], DECODE_LIMIT))
        if value then room[1] = room[1] - length end
        work[#work + 1] = thread
        work[#work + 1] = value
      end
      return work
    end
  end
  return {}
end

-- The fields of a process; false for one that is missing or too long.
local function fields_of(key, ...)
  local found = {}
  for n, name in ipairs({...}) do found[n] = short_field(key, name, LIMIT) end
  return found
end

local function queue_of(work)
  if not work then return nil end
  local head = string.match(string.sub(work, 1, 4096), '^{"queue":("[^"]*")')
  if head then
    local fine, name = pcall(cjson.decode, '[' .. head .. ']')
    if fine then return name[1] end
  end
  local job = decoded(work)
  return job and type(job.queue) == 'string' and job.queue or nil
end

-- The jid of a payload in which only one field of any depth is called so, and written plainly; false for others.
local function lone_jid(text)
  if #text > DECODE_LIMIT then return false end
  local _, stop = string.find(text, '"jid"', 1, true)
  if not stop or string.find(text, '"jid"', stop, true) then return false end
  return string.match(text, '^:"([%w_-]+)"', stop + 1) or false
end

-- Whether a name is that of an entry without a jid, as job_id in entry.py makes it.
local function is_raw(name)
  return string.match(name, '^raw%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$') or string.match(name, '^raw%x+%-%d+$')
end

-- Whether an entry may be one of `wanted`, names as job_id in entry.py makes them; true where its jid is written oddly.
-- What is no JSON goes by its stamp, whatever jid seems to stand in it.
local raw_of = {}
local function may_be(text, wanted)
  if raw_of[wanted] == nil then
    raw_of[wanted] = false
    for name in pairs(wanted) do raw_of[wanted] = raw_of[wanted] or is_raw(name) ~= nil end
  end
  if raw_of[wanted] and wanted['raw' .. stamp_of(text)] then return true end
  if #text > DECODE_LIMIT or not string.find(text, '"jid"', 1, true) then return false end
  local seen, from = false, 1
  while true do
    local _, stop = string.find(text, '"jid"', from, true)
    if not stop then return not seen end
    local jid = string.match(text, '^%s*:%s*"([^"\\\128-\255]+)"', stop + 1)
    if jid and wanted[jid] then return true end
    seen, from = seen or jid ~= nil, stop + 1
  end
end
