-- Finds the job of a schedule's next run. Only reads. Shared by the scripts that show schedules and those that change them.

local OPTIONS_BYTES, SCHEDULES = 65536, 1000

-- The options of a job; an empty table if they cannot be read.
local function options_of(key)
  local size = redis.pcall('HSTRLEN', key, 'opts')
  if type(size) ~= 'number' or size > OPTIONS_BYTES then return {} end
  local readable, found = pcall(cjson.decode, redis.pcall('HGET', key, 'opts') or '')
  return readable and type(found) == 'table' and found or {}
end

local function text_of(value)
  if type(value) == 'number' then return string.format('%.0f', value) end
  return type(value) == 'string' and value or nil
end

-- Whether an entry of `repeat` belongs to a run: `name:jobId:endDate:tz:pattern`, of which Bull omits parts.
local function made_by(member, name, own)
  if member == text_of(own.key) then return true end
  local tail = text_of(own.pattern) or text_of(own.cron) or text_of(own.every)
  local head = name .. ':' .. (text_of(own.jobId) or '') .. ':'
  return tail and string.sub(member, 1, #head) == head and string.sub(member, -#tail - 1) == ':' .. tail
end

-- The maximum list entries to read in total, and at each end of one list.
local READ, END = 3000, 50
local left, ends = READ, {}

-- The ids of runs near the ends of a queue's lists, by time; and whether these are all.
local function at_ends(base)
  if ends[base] then return ends[base] end
  local found = {whole = true, at = {}}
  ends[base] = found
  for _, name in ipairs({'wait', 'paused', 'active', 'prioritized'}) do
    local list = name ~= 'prioritized'
    local size = redis.pcall(list and 'LLEN' or 'ZCARD', base .. name)
    if type(size) == 'number' and size > 0 then
      if size > 2 * END or size > left then found.whole = false end
      local range = list and 'LRANGE' or 'ZRANGE'
      for _, span in ipairs(size > 2 * END and {{0, END - 1}, {-END, -1}} or {{0, -1}}) do
        local ids = left > 0 and redis.pcall(range, base .. name, span[1], span[2]) or {}
        left = left - #ids
        for _, id in ipairs(ids) do
          local at = string.match(id, '^repeat:.*:(%d+)$')
          if at then
            found.at[at] = found.at[at] or {}
            table.insert(found.at[at], id)
          end
        end
      end
    end
  end
  return found
end

local SAME_TIME = 100
local function is_run_of(base, id, member)
  local key = base .. id
  local fields = redis.pcall('HMGET', key, 'rjk', 'name')
  if fields.err then return false end
  if fields[1] then return fields[1] == member end
  local own = options_of(key)['repeat']
  return type(own) == 'table' and made_by(member, fields[2] or '__default__', own)
end

-- The id of the next run, at `ms`, of a schedule of an older release, if it is not the release's default id: an app can
-- choose the key (5.6 to 5.11) or its hash. nil if it is not found; then also whether it certainly does not exist.
local function odd_run(base, member, ms)
  local at = string.format('%.0f', ms)
  local first = string.format('%.0f', ms * 4096)
  local ids = redis.pcall('ZRANGEBYSCORE', base .. 'delayed', first, string.format('%.0f', ms * 4096 + 4095),
    'LIMIT', 0, SAME_TIME)
  for _, id in ipairs(ids) do
    if string.match(id, '^repeat:.*:(%d+)$') == at and is_run_of(base, id, member) then return id, true end
  end
  local near = at_ends(base)
  for _, id in ipairs(near.at[at] or {}) do
    if is_run_of(base, id, member) then return id, true end
  end
  return nil, near.whole and #ids < SAME_TIME
end

-- The id of the next run of a schedule; nil if there is none. `starts` = the possible prefixes of the id.
local function run_of(base, member, starts)
  local ms = tonumber(redis.pcall('ZSCORE', base .. 'repeat', member) or '')
  if not ms then return nil end
  for _, start in ipairs(starts) do
    local id = start .. string.format('%.0f', ms)
    if redis.pcall('EXISTS', base .. id) == 1 then return id end
  end
  return (odd_run(base, member, ms))
end
