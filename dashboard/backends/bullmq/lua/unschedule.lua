-- Remove a schedule, and its next run if that has not started; or read what this removes, which changes nothing.
-- KEYS: repeat. ARGV: base, schedule id, 'read' or the signature of what was read ('' = any), maximum size in bytes, then
-- possible prefixes of the ids of its runs if it is of an older release.
-- Returns an outcome ('changed' = it is no longer as it was read) or why not; after 'read' {size}, and if it is not too
-- large also signature, ms of the next run, dump of the schedule or '', and then per run: id, score, dedup key or '', its
-- ms to live, dump of the job held back until it finishes or '', six dumps.
local base, id, mode, largest = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local why = unwritable(base)
if why then return why end
local at = call('ZSCORE', KEYS[1], id)
if not at then return 'gone' end
local kind = generation(base)
local starts = {'repeat:' .. id .. ':'}
for n = 5, #ARGV do starts[#starts + 1] = ARGV[n] end
local odd = run_of(base, id, starts)
if call('EXISTS', KEYS[1] .. ':' .. id) == 0 and #starts == 1 and not odd then
  return 'it is a repeatable job of an older release, whose runs cannot be found by its id; only the app can remove it'
end
local runs = {}
local function add_run(run)
  local score = run and call('ZSCORE', base .. 'delayed', run)
  if score then runs[#runs + 1] = {run, score} end
end
add_run(odd)
for _, start in ipairs(starts) do
  if start .. at ~= odd then add_run(start .. at) end
end

local function whole_size()
  local size = call('MEMORY', 'USAGE', KEYS[1] .. ':' .. id, 'SAMPLES', 0) or 0
  for _, run in ipairs(runs) do
    for _, part in ipairs(PARTS) do size = size + (call('MEMORY', 'USAGE', base .. run[1] .. part, 'SAMPLES', 0) or 0) end
  end
  return size
end

local function backup()
  local found = {at, call('DUMP', KEYS[1] .. ':' .. id) or ''}
  for _, run in ipairs(runs) do
    local key, dedup, ttl, following = base .. run[1], '', 0, ''
    local own = is_hash(key) and call('HGET', key, 'deid')
    if own and redis.pcall('GET', base .. 'de:' .. own) == run[1] then
      dedup, ttl = base .. 'de:' .. own, call('PTTL', base .. 'de:' .. own)
      following = call('DUMP', base .. 'dn:' .. own) or ''
    end
    for _, value in ipairs({run[1], run[2], dedup, tostring(ttl), following}) do found[#found + 1] = value end
    for _, part in ipairs(PARTS) do found[#found + 1] = call('DUMP', key .. part) or '' end
  end
  return found
end

-- All but the times to live, which pass.
local function signature_of(found)
  local stable = {}
  for n, value in ipairs(found) do stable[n] = n > 2 and (n - 3) % 11 == 3 and '' or #value .. ':' .. value end
  return redis.sha1hex(table.concat(stable))
end

if mode ~= '' then
  local size = whole_size()
  if size > largest then return mode == 'read' and {size} or 'changed' end
  local found = backup()
  local signature = signature_of(found)
  if mode == 'read' then return {size, signature, unpack(found)} end
  if signature ~= mode then return 'changed' end
end
for _, run in ipairs(runs) do
  local key = base .. run[1]
  call('ZREM', base .. 'delayed', run[1])
  if is_hash(key) then forget_duplicates(base, run[1], call('HGET', key, 'deid')) end
  for _, part in ipairs(PARTS) do call('DEL', key .. part) end
  event(base, kind, 'event', 'removed', 'jobId', run[1], 'prev', 'delayed')
end
call('ZREM', KEYS[1], id)
call('DEL', KEYS[1] .. ':' .. id)
return 'done'
