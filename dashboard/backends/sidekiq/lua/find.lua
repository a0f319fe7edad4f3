-- Finds one job. ARGV: namespace, queue or '', job id, score or '', how many entries of each list or set to scan, after
-- how many to begin, '1' to scan the sets too, how many bytes of each to read.
-- Returns {{{where, payload, its length, score or false, position or false, stamp if cut}...}, the size of the largest
-- list or set, after how many entries to continue, bytes read}: `where` is a set's key or 'queue:NAME'.
local namespace, queue, id, score, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local after, sets, room, largest = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8]), 0
-- The next call continues in all of them where the shortest scan ended.
local reached, bytes = after + most, 0
local found = {}

local function add(where, text, at, place)
  local cut = entry(text)
  found[#found + 1] = {where, cut[1], cut[2], at, place, cut[3]}
end

-- Another job may contain this id in its arguments: an id anywhere in the text is only a hint. Characters that JSON may
-- escape can be written differently.
local raw, escaped = is_raw(id), string.find(id, '[%c"\\/<>&\127]') ~= nil
local ESCAPED = '"jid"%s*:%s*"[^"]*\\'
local function holds(text)
  -- An entry without a jid is identified by its stamp.
  if raw and 'raw' .. stamp_of(text) == id then return true end
  if not string.find(text, id, 1, true) and not (escaped and string.find(text, ESCAPED)) then return false end
  local jid = lone_jid(text)
  if jid then return jid == id end
  local job = decoded(text)
  if job then return job.jid == id end
  return may_be(text, {[id] = true}) == true
end

local function look(key, kind, stop, visit)
  local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
  if not filled(size) then return end
  largest = math.max(largest, size)
  local to, some = each_member(key, kind, true, after, stop, room, visit)
  bytes = bytes + some
  if to < math.min(stop, size) then reached = math.min(reached, to) end
end

local function look_in_list(key, where)
  look(key, 'list', after + most, function(text, _, place)
    if not holds(text) then return false end
    add(where, text, false, place)
    return true
  end)
end

local function look_in_set(name)
  local key = namespace .. name
  if score ~= '' then
    local size = read('ZCOUNT', key, score, score)
    if not filled(size) then return end
    local first = redis.call('ZCOUNT', key, '-inf', '(' .. score)
    local _, some = each_member(key, 'zset', false, first, first + math.min(size, most), room, function(text)
      if holds(text) then add(name, text, score, false) end
    end)
    bytes = bytes + some
    return
  end
  look(key, 'zset', after + most, function(text, at)
    if not holds(text) then return false end
    add(name, text, at, false)
    return true
  end)
end

if score == '' and queue ~= '' then look_in_list(namespace .. 'queue:' .. queue, 'queue:' .. queue) end
if sets then
  for _, name in ipairs({'dead', 'retry', 'schedule'}) do look_in_set(name) end
end
return {found, largest, reached, bytes}
