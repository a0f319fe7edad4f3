-- Reads everything needed to restore jobs. Only reads. KEYS: the list or sorted set they are in, then the hash of each.
-- ARGV after those of writing.lua: 'list', 'zset' or 'none', the statuses they may have, '1' if the stamp is the finish
-- time, largest job in bytes, maximum bytes of the reply, then id, stamp ('' = any) and the id after it in a list of each.
-- Returns per job an outcome as in move.lua, 'later' if the reply is full, or {score or '', bytes, mark, group or '',
-- number of dependents, '1' if it was enqueued ahead of others, the start of its description, then dump and ms to live of its four keys, then the ids
-- of its parents}; nothing from the dumps on if it is too large to back up.
local from, kind, states, ended = KEYS[1], ARGV[5], ' ' .. ARGV[6] .. ' ', ARGV[7] == '1'
local largest, room = tonumber(ARGV[8]), tonumber(ARGV[9])
local all_of_it = room
-- 'none': the jobs are in no list; then the first key is the list of the queue.
local refused = wrong(from, kind == 'none' and 'list' or kind)
if refused then return refused end
local scheduler = from == prefix .. ':scheduled:' .. queue and call('EXISTS', prefix .. ':scheduler-lock:' .. queue) == 1

local function count(command, key)
  local found = try(command, key)
  return failed(found) and 0 or found
end

local function take(id, stamp, after, key)
  local job, why = read(key)
  local score, at = '', from
  if kind == 'zset' then
    if job and job.status == 'rate_limited' then at = prefix .. ':rl:' .. (job.rate_limit_key or '') .. ':rate_limited' end
    score = try('ZSCORE', at, id)
    if type(score) ~= 'string' then return job and NOT_LISTED or why end
  end
  if not job then
    if why == 'gone' or why == NO_JOB then return {score, 0, why, '', 0, '', '', '', -1, '', -1, '', -1, '', -1} end
    return why
  end
  why = differs(job, states, ended, stamp)
  if why then return why end
  if runs(id) then return RUNS end
  if scheduler and tonumber(score) <= now_s + 1 then return 'it is due; RQ\'s scheduler is enqueuing it now' end
  local parents = parents_of(id)
  if not parents then return 'it depends on too many jobs' end
  local parts = {key, key .. ':dependents', prefix .. ':job::' .. id .. ':dependencies', prefix .. ':results:' .. id}
  local there = {call('HLEN', key), count('SCARD', parts[2]), #parents, count('XLEN', parts[4])}
  local small = there[1] <= MANY and there[2] <= MANY and there[4] <= 100
  local size = 0
  for n, part in ipairs(parts) do
    if there[n] > 0 then size = size + call('MEMORY', 'USAGE', part, 'SAMPLES', small and 0 or 5) end
  end
  if not small or size > largest then return {score, size, '', '', there[2], '', ''} end
  if size > room and room < all_of_it then return 'later' end
  room = room - size
  local group = job.group_id and try('SISMEMBER', prefix .. ':group:' .. job.group_id, id) == 1 and job.group_id or ''
  local behind = after ~= '' and try('HGET', prefix .. ':job:' .. after, 'enqueued_at')
  local front = type(behind) == 'string' and job.enqueued_at and behind < job.enqueued_at
  local described = try('HGET', key, 'description')
  described = type(described) == 'string' and string.sub(described, 1, 2000) or ''
  local answer = {score, size, '', group, there[2], front and '1' or '', described}
  for n, part in ipairs(parts) do
    local dump = there[n] > 0 and call('DUMP', part) or ''
    if n == 1 then answer[3] = #dump .. string.sub(dump, -8) end
    answer[#answer + 1] = dump
    answer[#answer + 1] = there[n] > 0 and call('PTTL', part) or -1
  end
  for _, parent in ipairs(parents) do
    local waits = job.status == 'deferred' or try('SISMEMBER', prefix .. ':job:' .. parent .. ':dependents', id) == 1
    if waits then answer[#answer + 1] = parent end
  end
  return answer
end

local answers = {}
for n = 2, #KEYS do answers[n - 1] = take(ARGV[n * 3 + 4], ARGV[n * 3 + 5], ARGV[n * 3 + 6], KEYS[n]) end
return answers
