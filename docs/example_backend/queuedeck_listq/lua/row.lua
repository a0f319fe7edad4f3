-- {id, score, size of args, name, enqueued_at, started_at, finished_at, error, stack, result, args}; false for a value that
-- is missing or longer than LONGEST.
local LONGEST = 65536
local function read_row(key, id, score)
  local row, job, size = {id, score or '', 0}, key .. ':job:' .. id, 0
  for _, field in ipairs({'name', 'enqueued_at', 'started_at', 'finished_at', 'error', 'stack', 'result', 'args'}) do
    row[#row + 1], size = short_field(job, field, LONGEST)
  end
  if type(size) == 'number' then row[3] = size end
  return row
end
