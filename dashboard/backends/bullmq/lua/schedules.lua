-- The data of schedules: the hash of each, the job of its next run and its list, and when the previous run started.
-- ARGV: JSON [field of the hash, ...], JSON [field of the job, ...], maximum value, then for each schedule its hash, the
-- prefix of its queue's keys, ms of its next run, ms between two runs if its hash does not have them or '', which field of
-- the hash has them, and three possible prefixes of the key of its jobs, each or ''.
-- Returns per schedule {{value or false or {length}, ...} or an error, {which prefix, {value, ...}} or false, ms of the
-- previous run or false, the list of the next run: '' = none, false = unknown}.
local names, job_names, limit = cjson.decode(ARGV[1]), cjson.decode(ARGV[2]), tonumber(ARGV[3])
local MS = '%.0f'
-- The next run is near an end of its list, unless very many jobs were added after it.
local NEAR = 1000

local function in_list(key, id)
  local size = read('LLEN', key)
  if failed(size) or size == 0 then return false, not failed(size) end
  for _, rank in ipairs({1, -1}) do
    local at = read('LPOS', key, id, 'RANK', rank, 'MAXLEN', NEAR)
    if at and not failed(at) then return true, true end
  end
  return false, size <= 2 * NEAR
end

local function standing(base, id)
  local certain = true
  for _, set in ipairs({'delayed', 'prioritized', 'completed', 'failed', 'waiting-children'}) do
    local score = read('ZSCORE', base .. set, id)
    if failed(score) then certain = false elseif score then return set end
  end
  if read('EXISTS', base .. id .. ':lock') == 1 then return 'active' end
  for _, list in ipairs({'active', 'wait', 'paused'}) do
    local found, whole = in_list(base .. list, id)
    if found then return list end
    certain = certain and whole
  end
  return certain and ''
end

local rows = {}
for i = 4, #ARGV, 8 do
  local key, base = ARGV[i], ARGV[i + 1]
  local values = fields(key, limit, names)
  local next_ms, every = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local interval = not failed(values) and values[tonumber(ARGV[i + 4])]
  if type(interval) == 'string' then every = tonumber(interval) end
  local job, before, where = false, false, ''
  for n = 1, 3 do
    local start = ARGV[i + 4 + n]
    if start ~= '' and next_ms then
      local run = start .. string.format(MS, next_ms)
      if not job and read('EXISTS', run) == 1 then
        job = {n, fields(run, limit, job_names)}
        where = standing(base, string.sub(run, #base + 1))
      end
      if not before and every then
        before = fields(start .. string.format(MS, next_ms - every), 40, {'processedOn'})
        before = not failed(before) and before[1]
      end
    end
  end
  -- The run ids of older releases are guessed; others are exact.
  if not job and next_ms and (failed(values) or ARGV[i + 6] ~= '' or read('EXISTS', key) == 0) then
    local run, whole = odd_run(base, string.sub(key, #base + 8), next_ms)
    if run then
      job = {0, fields(base .. run, limit, job_names)}
      where = standing(base, run)
    elseif not whole then
      where = false
    end
  end
  -- A worker may have continued to the following run since the times were read.
  local score = read('ZSCORE', base .. 'repeat', string.sub(key, #base + 8))
  if failed(score) or not score or tonumber(score) ~= next_ms then where = false end
  rows[#rows + 1] = {values, job, before, where}
end
return rows
