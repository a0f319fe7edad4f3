-- Everything needed to restore jobs. Only reads.
-- KEYS: the hash of each job. ARGV: base, maximum size in bytes, maximum bytes of this reply, the sorted sets that may
-- contain the jobs as 'name name' ('-' = in no list at all), then per job: id, stamp ('' = any), and if it was found in a
-- list: its name, the id before it, its position.
-- Returns per job an outcome or the reason why it was refused, 'later' if the reply is full, or {list, stamp or '', id
-- before it or '', position, size, signature, dedup key or '', its ms to live, dump of the job held back until it finishes
-- or '', parent key or '', '1' if the parent waits for it, name, dump...}; no dumps if it is too large.
local base, largest, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local why = unwritable(base)
if why then return for_each(#KEYS, why) end
local kind = generation(base)
local unlisted = ARGV[4] == '-'
local sets, given, answers = {}, false, {}
for name in string.gmatch(ARGV[4], '%S+') do
  if call('TYPE', base .. name).ok == 'zset' then sets[#sets + 1] = name end
end

local function place(id, at)
  if unlisted then
    local name = stands_at(base, id)
    if not name then return '', '', '', 0 end
    return nil, name == 'far'
  end
  if ARGV[at + 2] ~= '' then return ARGV[at + 2], '', ARGV[at + 3], tonumber(ARGV[at + 4]) end
  for _, name in ipairs(sets) do
    local score = call('ZSCORE', base .. name, id)
    if score then return name, score, '', 0 end
  end
end

-- Most jobs have none of the other parts; one command checks that.
local function parts_of(key)
  local others = {}
  for n = 2, #PARTS do others[n - 1] = key .. PARTS[n] end
  return call('EXISTS', unpack(others)) > 0 and #PARTS or 1
end

local function whole(id, key, name, score, before, at)
  local parts, size = parts_of(key), 0
  for n = 1, parts do size = size + (call('MEMORY', 'USAGE', key .. PARTS[n], 'SAMPLES', 0) or 0) end
  local small = size <= largest
  if small and given and size > room then return 'later' end
  local fields = call('HMGET', key, 'deid', 'parentKey', 'name')
  local dedup, ttl, following = '', 0, ''
  if fields[1] and redis.pcall('GET', base .. 'de:' .. fields[1]) == id then
    dedup, ttl = base .. 'de:' .. fields[1], call('PTTL', base .. 'de:' .. fields[1])
    following = call('DUMP', base .. 'dn:' .. fields[1]) or ''
  end
  local parent = fields[2] or ''
  local waits = parent ~= '' and call('SISMEMBER', parent .. ':dependencies', key) == 1 and '1' or '0'
  local answer = {name, score, before, at, size, '', dedup, ttl, following, parent, waits, string.sub(fields[3] or '', 1, 300)}
  if small then
    for n = 1, #PARTS do answer[#answer + 1] = n <= parts and call('DUMP', key .. PARTS[n]) or '' end
    answer[6] = signature(key, name)
    room, given = room - size, true
  end
  return answer
end

for n = 1, #KEYS do
  local key, arg = KEYS[n], n * 5
  local id, stamp = ARGV[arg], ARGV[arg + 1]
  local name, score, before, at = place(id, arg)
  if not name then
    answers[n] = score and 'a list of this queue is too long to search in full, so the job may be in it'
      or call('EXISTS', key) == 1 and 'changed'
      or 'gone'
  elseif unlisted and call('EXISTS', key) == 0 then
    answers[n] = 'gone'
  elseif stamp ~= '' and score ~= stamp then
    answers[n] = 'changed'
  elseif lock_of(key) or name == 'active' and being_taken(kind, key) then
    answers[n] = 'a worker is processing it'
  elseif call('EXISTS', key) == 1 and not is_hash(key) then
    answers[n] = {name, score, before, at, 0, '', '', 0, '', '', '0', ''}
  elseif next_run(base, key, id) then
    answers[n] = 'it is the next run of a schedule; remove the schedule instead'
  elseif foreign_parent(key) then
    answers[n] = foreign_parent(key)
  else
    answers[n] = whole(id, key, name, score, before, at)
  end
end
return answers
