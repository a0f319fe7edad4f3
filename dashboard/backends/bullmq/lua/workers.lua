-- The running jobs of many queues. ARGV: maximum jobs to read in this call, maximum per queue, `<prefix>:<queue>` of each
-- queue.
-- Returns per queue {running jobs, {id, {name, pb, processedOn}, lock: its token or false}...}, longest running first.
local pool, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local SHORT = 500
local NAMES = {'name', 'pb', 'processedOn'}

local function lock_of(key)
  if read('EXISTS', key .. ':lock') == 0 then return false end
  local token = read('GETRANGE', key .. ':lock', 0, SHORT - 1)
  if failed(token) then return '' end
  return token
end

local rows = {}
for i = 3, #ARGV do
  local base = ARGV[i] .. ':'
  local row = {read('LLEN', base .. 'active')}
  if not failed(row[1]) and row[1] > 0 then
    local ids = read('LRANGE', base .. 'active', -math.max(1, math.min(most, pool)), -1)
    pool = pool - #ids
    for n = #ids, 1, -1 do
      local key = base .. ids[n]
      row[#row + 1] = {ids[n], fields(key, SHORT, NAMES), lock_of(key)}
    end
  end
  rows[#rows + 1] = row
end
return rows
