-- All that is needed to put jobs back. Only reads.
-- KEYS: the hash of each job. ARGV: base, largest size in bytes, how far a list is searched, then per job: id, stamp
-- ('' = any), and the lists it may stand in as 'name name'.
-- Returns per job an outcome or why not, or {list, stamp or '', id before it or '', place, size, signature, dedup key or
-- '', its ms to live, parent key or '', '1' when the parent waits for it, dump...}; no dumps when it is too large.
local base, largest, far = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local answers = {}

local function place(id, lists)
  for name in string.gmatch(lists, '%S+') do
    local kind = call('TYPE', base .. name).ok
    if kind == 'zset' then
      local score = call('ZSCORE', base .. name, id)
      if score then return name, score, '', 0 end
    elseif kind == 'list' then
      local at = call('LPOS', base .. name, id, 'RANK', -1, 'MAXLEN', far)
      if at then
        local length = call('LLEN', base .. name)
        return name, '', call('LINDEX', base .. name, at + 1) or '', length - at
      end
    end
  end
end

for n = 1, #KEYS do
  local key, id, stamp, lists = KEYS[n], ARGV[1 + n * 3], ARGV[2 + n * 3], ARGV[3 + n * 3]
  local name, score, before, at = place(id, lists)
  if not name then
    answers[n] = call('EXISTS', key) == 1 and 'changed' or 'gone'
  elseif stamp ~= '' and score ~= stamp then
    answers[n] = 'changed'
  elseif not is_hash(key) then
    answers[n] = {name, score, before, at, 0, '', '', 0, '', '0'}
  elseif lock_of(key) then
    answers[n] = 'a worker holds it'
  elseif next_run(base, key, id) then
    answers[n] = 'it is the next run of a schedule; remove the schedule instead'
  else
    local size = 0
    for _, part in ipairs(PARTS) do size = size + (call('MEMORY', 'USAGE', key .. part, 'SAMPLES', 0) or 0) end
    local fields = call('HMGET', key, 'deid', 'parentKey')
    local dedup, ttl = '', 0
    if fields[1] and call('GET', base .. 'de:' .. fields[1]) == id then
      dedup, ttl = base .. 'de:' .. fields[1], call('PTTL', base .. 'de:' .. fields[1])
    end
    local parent = fields[2] or ''
    local waits = parent ~= '' and call('SISMEMBER', parent .. ':dependencies', key) == 1 and '1' or '0'
    local small = size <= largest
    local answer = {name, score, before, at, size, small and signature(key) or '', dedup, ttl, parent, waits}
    if small then
      for _, part in ipairs(PARTS) do answer[#answer + 1] = call('DUMP', key .. part) or '' end
    end
    answers[n] = answer
  end
end
return answers
