-- A process in brief: {info, false if it died, or an error; concurrency; {queue of each running job...}, or false if
-- they cannot be read}.
local function brief(_, key, room)
  local fields = fields_of(key, room, 'info', 'concurrency')
  if failed(fields) then return {fields, false, false} end
  local work = fields[1] and work_of(key, room)
  local running = work and {}
  for n = 2, work and #work or 0, 2 do running[#running + 1] = queue_of(work[n]) or '' end
  return {fields[1], fields[2], running or false}
end
