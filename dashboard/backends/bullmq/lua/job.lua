-- One job in detail: fields, position, logs, links. Values longer than a limit are cut, or only their length is returned.
-- ARGV: `<prefix>:<queue>`, job id, JSON [field...], maximum small value, JSON [big field...], maximum part returned of a
-- big value, maximum big value that is read at all, maximum log rows, maximum links of each kind.
-- Returns {{small value or false or {length}...}, {{part, length} or false...}, {score in each sorted set or false...},
-- lock 0/1, place {list, index} or false, {log rows, log total}, {{kind, total, {key...}}...}}, or an error; a total is
-- false if its key has the wrong type.
local base, id = ARGV[1] .. ':', ARGV[2]
local key = base .. id
local small_limit, part_limit, touch_limit = tonumber(ARGV[4]), tonumber(ARGV[6]), tonumber(ARGV[7])
local log_rows, link_rows = tonumber(ARGV[8]), tonumber(ARGV[9])
local LOG_ROW_LIMIT, LINK_LIMIT, LOGS_READ_BYTES = 4096, 1024, 1048576
-- How far a position is searched for in a list, from the end that is served next; lists can have a million jobs.
local LOOK_AT = 200000

local function big(name)
  local size = read('HSTRLEN', key, name)
  if failed(size) or size == 0 then return false end
  if size > touch_limit then return {false, size} end
  return {cut(read('HGET', key, name), part_limit), size}
end

local function place()
  local index = read('LPOS', base .. 'active', id, 'MAXLEN', LOOK_AT)
  if index and not failed(index) then return {'active', index} end
  for _, list in ipairs({'wait', 'paused'}) do
    index = read('LPOS', base .. list, id, 'RANK', -1, 'MAXLEN', LOOK_AT)
    if index and not failed(index) then return {list, read('LLEN', base .. list) - 1 - index} end
  end
  return false
end

-- A job with a priority runs after all jobs without one, and after those with a lower number.
local function after_others()
  local rank = read('ZRANK', base .. 'prioritized', id)
  local wait, paused = read('LLEN', base .. 'wait'), read('LLEN', base .. 'paused')
  if type(rank) ~= 'number' or failed(wait) or failed(paused) then return false end
  return {'prioritized', rank + wait + paused}
end

-- The members of a set, or the fields of a hash: never its values, which can be huge.
local function members(kind, counter, small, scan)
  local total = read(counter, key .. ':' .. kind)
  if failed(total) then return {kind, false, {}} end
  if total == 0 then return {kind, 0, {}} end
  local keys = {}
  if total <= 4 * link_rows or small[1] == "ZRANGE" then
    keys = read(small[1], key .. ':' .. kind, unpack(small, 2))
  else
    local step = scan == 'HSCAN' and 2 or 1
    local some = read(scan, key .. ':' .. kind, 0, 'COUNT', link_rows)[2]
    for i = 1, #some, step do keys[#keys + 1] = some[i] end
  end
  local kept = {}
  for i = 1, math.min(#keys, link_rows) do kept[i] = cut(keys[i], LINK_LIMIT) end
  return {kind, total, kept}
end

local small = fields(key, small_limit, cjson.decode(ARGV[3]))
if failed(small) then return small end
local bigs = {}
for i, name in ipairs(cjson.decode(ARGV[5])) do bigs[i] = big(name) end
local scores, decided = {}, false
for i, set in ipairs({'completed', 'failed', 'delayed', 'prioritized', 'waiting-children'}) do
  local score = read('ZSCORE', base .. set, id)
  scores[i] = not failed(score) and score or false
  decided = decided or scores[i] and set
end
local where = false
if not decided then where = place() elseif decided == 'prioritized' then where = after_others() end
local logs_total = read('LLEN', key .. ':logs')
local logs = {}
if not failed(logs_total) and logs_total > 0 then
  -- Newest first, until enough bytes are read.
  local found = {}
  each_member(key .. ':logs', 'list', false, 0, log_rows, LOGS_READ_BYTES, function(row)
    found[#found + 1] = cut(row, LOG_ROW_LIMIT)
  end)
  for n = #found, 1, -1 do logs[#logs + 1] = found[n] end
end
if failed(logs_total) then logs_total = false end
return {
  small, bigs, scores, read('EXISTS', key .. ':lock'), where, {logs, logs_total},
  {
    members('dependencies', 'SCARD', {'SMEMBERS'}, 'SSCAN'),
    members('processed', 'HLEN', {'HKEYS'}, 'HSCAN'),
    members('failed', 'HLEN', {'HKEYS'}, 'HSCAN'),
    members('unsuccessful', 'ZCARD', {'ZRANGE', 0, link_rows - 1}, 'SSCAN'),
  },
}
