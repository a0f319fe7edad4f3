-- All that is needed to put jobs back. Only reads.
-- KEYS: the list or sorted set they stand in, then the hash of each job. ARGV: prefix, largest size in bytes, how far a
-- list is searched, then id and stamp ('' = any) of each job.
-- Returns per job an outcome or why not, or {score or '', id before it or '', place, size, signature, its ms to live or
-- -1, four dumps, id...}: the ids are those it waits for; no dumps when it is too large.
local call = redis.call
local from, prefix, largest, far = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local is_list = call('TYPE', from).ok == 'list'
local answers = {}

local function place(id)
  if not is_list then return call('ZSCORE', from, id) or nil, '', 0 end
  local at = call('LPOS', from, id, 'MAXLEN', far)
  if not at then return nil end
  return '', at > 0 and call('LINDEX', from, at - 1) or '', at
end

for n = 2, #KEYS do
  local id, stamp, key = ARGV[n * 2], ARGV[n * 2 + 1], KEYS[n]
  local parts = {key, key .. ':dependents', prefix .. ':job::' .. id .. ':dependencies', prefix .. ':results:' .. id}
  local is_hash = call('TYPE', key).ok == 'hash'
  local score, before, at = place(id)
  if not score then
    answers[n - 1] = is_hash and 'changed' or 'gone'
  elseif not is_hash then
    answers[n - 1] = {score, before, at, 0, '', -1}
  elseif stamp ~= '' and call('HGET', key, 'ended_at') ~= stamp then
    answers[n - 1] = 'changed'
  elseif call('HGET', key, 'status') == 'started' then
    answers[n - 1] = 'a worker runs it: stop it first'
  else
    local size = 0
    for _, part in ipairs(parts) do size = size + (call('MEMORY', 'USAGE', part, 'SAMPLES', 0) or 0) end
    local small = size <= largest
    local answer = {score, before, at, size, small and redis.sha1hex(call('DUMP', key)) or '', call('PTTL', key)}
    if small then
      for _, part in ipairs(parts) do answer[#answer + 1] = call('DUMP', part) or '' end
      if call('TYPE', parts[3]).ok == 'set' then
        for _, parent in ipairs(call('SMEMBERS', parts[3])) do
          if call('SISMEMBER', prefix .. ':job:' .. parent .. ':dependents', id) == 1 then answer[#answer + 1] = parent end
        end
      end
    end
    answers[n - 1] = answer
  end
end
return answers
