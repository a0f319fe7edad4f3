-- One job. ARGV: namespace, queue or '', job id, score or '', how many entries are looked at in each list or set,
-- after how many, '1' when the sets are looked at too.
-- Returns {{{where, payload, its length, score or false, place or false, stamp where cut}...}, the size of the largest list or set}:
-- `where` is a set's key or 'queue:NAME'.
local namespace, queue, id, score, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local after, sets, largest = tonumber(ARGV[6]), ARGV[7] == '1', 0
local CHUNK, NAMELESS_AT = 500, 1000
local found = {}

local function add(where, text, at, place)
  local cut = entry(text)
  found[#found + 1] = {where, cut[1], cut[2], at, place, cut[3]}
end

-- Without an id what is meant is an entry that has none.
local function nameless(text)
  local job = decoded(text)
  return not job or type(job.jid) ~= 'string'
end

-- Another job may name this one in its arguments: an id anywhere in the text is only a first hint.
local function holds(text)
  if not string.find(text, id, 1, true) then return false end
  local jid = lone_jid(text)
  if jid then return jid == id end
  local job = decoded(text)
  if job then return job.jid == id end
  return may_be(text, {[id] = true}) == true
end

local function look_in_list(key, where)
  local size = read('LLEN', key)
  if not filled(size) then return end
  largest = math.max(largest, size)
  if id == '' then most = math.min(most, NAMELESS_AT) end
  for start = after, math.min(size, after + most) - 1, CHUNK do
    local texts = read('LRANGE', key, -start - CHUNK, -start - 1)
    for i = #texts, 1, -1 do
      if id == '' then
        if nameless(texts[i]) then add(where, texts[i], false, start + #texts - i) end
      elseif holds(texts[i]) then return add(where, texts[i], false, start + #texts - i)
      end
    end
  end
end

local function look_in_set(name)
  local key = namespace .. name
  if score ~= '' then
    local members = read('ZRANGEBYSCORE', key, score, score, 'LIMIT', 0, most)
    if failed(members) then return end
    for i = 1, #members do
      if id == '' or holds(members[i]) then add(name, members[i], score, false) end
    end
    return
  end
  local size = read('ZCARD', key)
  if not filled(size) then return end
  largest = math.max(largest, size)
  local members = read('ZREVRANGE', key, after, after + most - 1, 'WITHSCORES')
  for i = 1, #members, 2 do
    if holds(members[i]) then return add(name, members[i], members[i + 1], false) end
  end
end

if score == '' and queue ~= '' then look_in_list(namespace .. 'queue:' .. queue, 'queue:' .. queue) end
if sets then
  for _, name in ipairs({'dead', 'retry', 'schedule'}) do look_in_set(name) end
end
return {found, largest}
