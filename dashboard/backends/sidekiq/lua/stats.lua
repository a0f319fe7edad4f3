-- The figures of one namespace and of some of its queues.
-- ARGV[1]: namespace with its colon, or ''; ARGV[2]: '1' to read the sets of all queues; then queue names.
-- Returns {{length, when the oldest of the examined jobs was enqueued or false, 1 if its next job was not read for lack of
-- room}... per queue,
-- {schedule, retry, dead sizes, earliest schedule score, earliest retry score} or false,
-- {rows of the first processes as brief.lua returns them, {further identity...}, how many there are or an error, how many
-- were listed}, {paused queues...} or an error}. The last three are shared by all queues and only read if ARGV[2] is '1'.
local namespace = ARGV[1]

-- When a job was enqueued, as written in its payload; nil if it is not.
local function enqueued_at(text)
  -- If only one field at any depth has this name, and it is a number, nothing else needs to be decoded.
  local _, stop = string.find(text, '"enqueued_at":', 1, true)
  local plain = stop and string.match(text, '^(%d+%.?%d*)[,}]', stop + 1)
  if plain and #text <= DECODE_LIMIT and not string.find(text, '"enqueued_at"', stop, true) then return tonumber(plain) end
  local job = decoded(text)
  local at = job and job.enqueued_at
  if at == nil or at == cjson.null then at = job and job.created_at end
  return (type(at) == 'number' or type(at) == 'string' and #at <= 64) and at or nil
end

-- The number of days from 1970 to a date.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month - 3) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end

local YEAR_10000 = 253402300800
-- A time in seconds; nil if it is not a time. Times above 1e11 are milliseconds.
local function seconds(at)
  local number = tonumber(at)
  if not number and type(at) == 'string' then
    local year, month, day, hour, minute, second, zone =
      string.match(at, '^%s*(%d%d%d%d)%-(%d%d)%-(%d%d)[T ](%d%d):(%d%d):(%d%d%.?%d*)%s*(.-)%s*$')
    if not year then return nil end
    number = days(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600 + minute * 60 + tonumber(second)
    local sign, hours, minutes = string.match(zone, '^([+-])(%d%d):?(%d%d)$')
    if sign then number = number - (sign == '-' and -1 or 1) * (hours * 3600 + minutes * 60)
    elseif zone ~= 'Z' and zone ~= 'UTC' and zone ~= '' then return nil end
  end
  if not number or number ~= number or number <= 0 then return nil end
  if number > 1e11 then number = number / 1000 end
  return number < YEAR_10000 and number or nil
end

-- Limits: the bytes read of the next jobs of all queues, and of the jobs that are examined beyond those.
local HEADS_BYTES, OTHERS_BYTES = 4194304, 524288
local other_bytes = 0
local queues, read_bytes, looks = {}, 0, {600}
for i = 3, #ARGV do
  local key = namespace .. 'queue:' .. ARGV[i]
  local size = read('LLEN', key)
  local head = filled(size) and read_bytes < HEADS_BYTES and read('LINDEX', key, -1)
  if head then read_bytes = read_bytes + #head end
  local first
  if head then
    first = oldest(size, function(place)
      if place == 0 then return seconds(enqueued_at(head)) end
      local text = redis.call('LINDEX', key, -place - 1)
      other_bytes = other_bytes + #text
      if other_bytes > OTHERS_BYTES then looks[1] = 0 end
      return seconds(enqueued_at(text))
    end, looks)
  end
  queues[#queues + 1] = {size, first and string.format('%.6f', first) or false, filled(size) and not head and 1}
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

if ARGV[2] ~= '1' then return {queues, false, {}, {}} end
local identities, count = some(namespace .. 'processes')
local rows, left = rows_of(namespace, identities, brief)
local paused, known = some(namespace .. 'paused')
return {queues, sets, {rows, left, count, #identities}, failed(known) and known or paused}
