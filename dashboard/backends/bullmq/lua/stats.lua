-- The figures of many queues.
-- ARGV[1]: JSON [[command, last part of the key, argument...], ...]; then `<prefix>:<queue>` of each queue.
-- Returns per queue {reply, ..., oldest}: `oldest` holds {timestamp, processedOn, atm, attemptsMade, opts} of the jobs
-- at the ends of the waiting lists, among which the one that waits longest is found.
local LIMIT = 4096
local plan = cjson.decode(ARGV[1])
local DETAILS = {'timestamp', 'processedOn', 'atm', 'attemptsMade', 'opts'}

local function is_job(id)
  return type(id) == 'string' and string.sub(id, 1, 2) ~= '0:'
end

local function ends(base)
  local ids, seen = {}, {}
  local function add(id)
    if is_job(id) and not seen[id] then
      seen[id] = true
      ids[#ids + 1] = id
    end
  end
  local tail = read('LINDEX', base .. 'wait', -1)
  if tail and not failed(tail) then
    if not is_job(tail) then tail = read('LINDEX', base .. 'wait', -2) end
    add(tail)
    add(read('LINDEX', base .. 'wait', 0))
  end
  add(read('LINDEX', base .. 'paused', -1))
  local head = read('ZRANGE', base .. 'prioritized', 0, 0)
  if not failed(head) then add(head[1]) end
  return ids
end

local rows = {}
for i = 2, #ARGV do
  local base = ARGV[i] .. ':'
  local row = {}
  for n = 1, #plan do
    local step = plan[n]
    row[n] = cut(read(step[1], base .. step[2], unpack(step, 3)), LIMIT)
  end
  local oldest = {}
  for n, id in ipairs(ends(base)) do
    local details = fields(base .. id, LIMIT, DETAILS)
    oldest[n] = failed(details) and {} or details
  end
  row[#plan + 1] = oldest
  rows[#rows + 1] = row
end
return rows
