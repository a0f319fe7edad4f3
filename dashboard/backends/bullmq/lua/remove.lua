-- Delete jobs that are as they were when they were taken.
-- KEYS: the hash of each job. ARGV: base, then per job: id, list, stamp ('' for a list), signature ('' = any), dedup key
-- or ''. Returns an outcome per job: done, gone, changed, or why not.
local base = ARGV[1]
local kind = generation(base)
local answers = {}

-- A parent that waits for nothing else any more is set free, as the library does it.
local function release(key)
  local parent = call('HGET', key, 'parentKey')
  if not parent or call('SREM', parent .. ':dependencies', key) == 0 then return end
  if call('SCARD', parent .. ':dependencies') > 0 then return end
  local prefix, id = string.match(parent, '^(.*:)([^:]*)$')
  if not prefix or call('ZREM', prefix .. 'waiting-children', id) == 0 then return end
  local its = generation(prefix)
  call('RPUSH', target(prefix, its), id)
  wake(prefix, its, id)
  event(prefix, its, 'event', 'waiting', 'jobId', id, 'prev', 'waiting-children')
end

local function take_out(name, id, stamp)
  if stamp ~= '' then
    if call('ZSCORE', base .. name, id) ~= stamp then return false end
    return call('ZREM', base .. name, id) == 1
  end
  return call('LREM', base .. name, -1, id) == 1
end

for n = 1, #KEYS do
  local key, at = KEYS[n], n * 5 - 3
  local id, name, stamp, seen, dedup = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local there = is_hash(key)
  if there and lock_of(key) then
    answers[n] = 'a worker holds it'
  elseif there and next_run(base, key, id) then
    answers[n] = 'it is the next run of a schedule; remove the schedule instead'
  elseif seen ~= '' and signature(key) ~= seen then
    answers[n] = there and 'changed' or 'gone'
  elseif not take_out(name, id, stamp) then
    answers[n] = there and 'changed' or 'gone'
  else
    if there then release(key) end
    if dedup ~= '' and call('GET', dedup) == id then call('DEL', dedup) end
    if kind == 'bull' then call('ZREM', base .. 'priority', id) end
    for _, part in ipairs(PARTS) do call('DEL', key .. part) end
    event(base, kind, 'event', 'removed', 'jobId', id, 'prev', name)
    answers[n] = 'done'
  end
end
return answers
