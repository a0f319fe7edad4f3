-- Shared by all scripts that only read. Every value is cut before it leaves the server.
-- Values longer than DECODE_LIMIT are never decoded and are identified only by their stamp, not by their content.
local LIMIT, DECODE_LIMIT = 65536, 4194304
local MOST_THREADS = 1000
-- The reply to a command; an error is returned like any other value.
local read = redis.pcall

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

local function filled(size)
  return type(size) == 'number' and size > 0
end

-- The JSON object in a text; nil for anything else, such as an array, or if it is too long or nested too deeply.
local function decoded(text)
  if type(text) ~= 'string' or #text > DECODE_LIMIT or not string.find(text, '^%s*{') then return nil end
  local fine, value = pcall(cjson.decode, text)
  if fine and type(value) == 'table' then return value end
  return nil
end

-- {payload, its length, its stamp if it was cut}: a long payload without its arguments and backtrace; of one too long to
-- decode only the first 1024 bytes.
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
      -- Values that JSON cannot encode, such as 1e999, are left out: the encoder would raise an error.
      local said = type(value) == 'string' or type(value) == 'boolean'
        or (type(value) == 'number' and value == value and math.abs(value) < math.huge)
      left = left - #name - (type(value) == 'string' and #value or 20)
      if said and left > 0 then short[name] = value end
    end
  end
  local fine, shown = pcall(cjson.encode, short)
  return {fine and shown or string.sub(text, 1, 1024), #text, stamp}
end

-- At most MOST_MEMBERS members of a set, which is small if only its library writes it; then its size, or an error.
local MOST_MEMBERS = 2000
local function some(key)
  local size = read('SCARD', key)
  if failed(size) then return {}, size end
  if size <= MOST_MEMBERS then return read('SMEMBERS', key), size end
  local cursor, found = '0', {}
  repeat
    local reply = redis.call('SSCAN', key, cursor, 'COUNT', 500)
    cursor = reply[1]
    for _, member in ipairs(reply[2]) do
      if #found < MOST_MEMBERS then found[#found + 1] = member end
    end
  until cursor == '0' or #found >= MOST_MEMBERS
  return found, size
end

-- How much one call may read from processes: {bytes, commands}, about a millisecond.
local function process_room() return {1048576, 500} end

-- {thread id, work or false, ...} of a process; false if it cannot be read. Up to 6.4.1 the key has another name.
local function work_of(identity, room)
  room[2] = room[2] - 2
  for _, name in ipairs({':work', ':workers'}) do
    local key, work = identity .. name, {}
    local size = read('HLEN', key)
    if failed(size) or size > MOST_THREADS then return false end
    if size > 0 then
      room[2] = room[2] - 2 * size
      for _, thread in ipairs(read('HKEYS', key)) do
        local value, length = short_field(key, thread, math.max(LIMIT, math.min(room[1], DECODE_LIMIT)))
        if value then room[1] = room[1] - length end
        work[#work + 1] = thread
        work[#work + 1] = value
      end
      return work
    end
  end
  return {}
end

-- The fields of a process; false for a field that is missing or too long; an error if the key has the wrong type.
local function fields_of(key, room, ...)
  local found = {}
  for n, name in ipairs({...}) do
    local value, length = short_field(key, name, LIMIT)
    if failed(length) then return length end
    found[n] = value
    room[2] = room[2] - 2
  end
  return found
end

-- The results of row(identity, key, room) for `identities`, until the room of a call is used up; then those left over.
local function rows_of(namespace, identities, row)
  local room, rows, left = process_room(), {}, {}
  for n, identity in ipairs(identities) do
    if n == 1 or room[1] > 0 and room[2] > 0 then
      rows[#rows + 1] = row(identity, namespace .. identity, room)
    else
      left[#left + 1] = identity
    end
  end
  return rows, left
end

local function queue_of(work)
  if not work then return nil end
  local name = string.match(work, '^{"queue":"([^"\\]*)"')
  if name then return name end
  local head = string.match(string.sub(work, 1, 4096), '^{"queue":("[^"]*")')
  if head then
    local fine, name = pcall(cjson.decode, '[' .. head .. ']')
    if fine then return name[1] end
  end
  local job = decoded(work)
  return job and type(job.queue) == 'string' and job.queue or nil
end

-- The jid of a payload that has only one field of this name at any depth, written without escapes; false for others.
local function lone_jid(text)
  if #text > DECODE_LIMIT then return false end
  local _, stop = string.find(text, '"jid"', 1, true)
  if not stop or string.find(text, '"jid"', stop, true) then return false end
  return string.match(text, '^:"([%w_-]+)"', stop + 1) or false
end

-- Whether a name is that of an entry without a jid, as job_id in job_decoding.py builds it.
local function is_raw(name)
  return string.match(name, '^raw%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$') or string.match(name, '^raw%x+%-%d+$')
end

-- Whether an entry may be one of `wanted`, names as job_id in job_decoding.py builds them; true if its jid is written
-- oddly. An entry that is not JSON is identified by its stamp, whatever jid it seems to contain.
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
