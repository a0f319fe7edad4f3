-- What is kept of schedules: the hash of each, the job of its next run, and when the run before that began.
-- ARGV: JSON [field of the hash, ...], JSON [field of the job, ...], longest value, then for each schedule its hash,
-- ms of its next run, ms between two runs where its hash does not tell them or '', which field of the hash tells them,
-- and three beginnings of the key of its jobs, each or ''.
-- Returns per schedule {{value or false or {length}, ...} or an error, {which beginning, {value, ...}} or false,
-- ms of the run before or false}.
local names, job_names, limit = cjson.decode(ARGV[1]), cjson.decode(ARGV[2]), tonumber(ARGV[3])
local MS = '%.0f'
local rows = {}
for i = 4, #ARGV, 7 do
  local values = fields(ARGV[i], limit, names)
  local next_ms, every = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local told = not failed(values) and values[tonumber(ARGV[i + 3])]
  if type(told) == 'string' then every = tonumber(told) end
  local job, before = false, false
  for n = 1, 3 do
    local start = ARGV[i + 3 + n]
    if start ~= '' and next_ms then
      if not job and read('EXISTS', start .. string.format(MS, next_ms)) == 1 then
        job = {n, fields(start .. string.format(MS, next_ms), limit, job_names)}
      end
      if not before and every then
        before = fields(start .. string.format(MS, next_ms - every), 40, {'processedOn'})
        before = not failed(before) and before[1]
      end
    end
  end
  rows[#rows + 1] = {values, job, before}
end
return rows
