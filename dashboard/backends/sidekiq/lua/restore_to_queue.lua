-- Restores deleted jobs of a queue. KEYS: the list, the deletions that can be undone, `queues`. ARGV: the queue's name;
-- then per job: its position from the served end (the one that workers fetch from), entry, token; nearest to it first.
-- Only a recorded deletion is undone, and only once. Returns the outcomes.

-- At most this many jobs at an end of the queue are removed and pushed again around the restored ones.
local FEW, SLICE = 1500, 1000
local NEARER = DONE .. '|will run earlier than before: a position in the middle of a long queue cannot be restored'
local size = redis.call('LLEN', KEYS[1])
-- Fewer if they are long, so that at most OTHERS_BYTES and one job are moved at each end.
local function nothing() end
local at_tail = each_member(KEYS[1], 'list', false, 0, FEW, OTHERS_BYTES, nothing, MANY_AT_ONCE)
if at_tail < size and at_tail < FEW then at_tail = math.max(0, at_tail - 1) else at_tail = FEW end
local from_head = math.max(0, size - FEW)
local at_head = each_member(KEYS[1], 'list', false, from_head, size, OTHERS_BYTES, nothing, MANY_AT_ONCE) >= size and FEW or -1
may_remove(KEYS[2])
local outcomes, known = {}, {}
-- The jobs near the served end, and those near the other end; in both, the nearest to the served end first.
local tail, head = {}, {}
local count, last = 0, 0
for i = 2, #ARGV, 3 do
  local token = ARGV[i + 2]
  local n = #outcomes + 1
  outcomes[n] = CHANGED
  if not known[token] and redis.call('ZSCORE', KEYS[2], token) then
    known[token] = true
    -- How many jobs of the current queue must be nearer to the served end than this one.
    -- Never fewer than ahead of the one before: positions seen at different times can coincide.
    local ahead = math.max(last, math.min(size, tonumber(ARGV[i]) - count))
    count, last = count + 1, ahead
    local job = {text = ARGV[i + 1], token = token, n = n, outcome = DONE, ahead = ahead, behind = size - ahead}
    if ahead <= at_tail then
      tail[#tail + 1] = job
    elseif job.behind <= at_head then
      head[#head + 1] = job
    else
      job.ahead, job.outcome = at_tail, NEARER
      tail[#tail + 1] = job
    end
  end
end

-- Whether pushing and trimming are permitted at this end, tested with the first job; after that nothing may fail.
local function permitted(jobs, pushing, first, last)
  local pushed = try(pushing, KEYS[1], jobs[1].text)
  local cut = failed(pushed) and pushed or try('LTRIM', KEYS[1], first, last)
  if not failed(cut) then return true end
  for _, job in ipairs(jobs) do outcomes[job.n] = cut.err end
  if not failed(pushed) then
    outcomes[jobs[1].n] = NEARER
    redis.call('ZREM', KEYS[2], jobs[1].token)
  end
  return false
end

local function push_all(pushing, line)
  for start = 1, #line, SLICE do
    redis.call(pushing, KEYS[1], unpack(line, start, math.min(#line, start + SLICE - 1)))
  end
end

local function done(jobs)
  for _, job in ipairs(jobs) do
    outcomes[job.n] = job.outcome
    redis.call('ZREM', KEYS[2], job.token)
  end
end

if #tail > 0 and permitted(tail, 'RPUSH', 0, -2) then
  local line, n, ahead = {}, #tail, tail[#tail].ahead
  local others = ahead > 0 and redis.call('LRANGE', KEYS[1], -ahead, -1) or {}
  if ahead > 0 then redis.call('LTRIM', KEYS[1], 0, -ahead - 1) end
  for left = ahead, 0, -1 do
    while n > 0 and tail[n].ahead == left do
      line[#line + 1] = tail[n].text
      n = n - 1
    end
    line[#line + 1] = others[ahead - left + 1]
  end
  push_all('RPUSH', line)
  done(tail)
end
if #head > 0 and permitted(head, 'LPUSH', 1, -1) then
  local line, behind = {}, head[1].behind
  local others = behind > 0 and redis.call('LRANGE', KEYS[1], 0, behind - 1) or {}
  if behind > 0 then redis.call('LTRIM', KEYS[1], behind, -1) end
  local n = 1
  for left = behind, 0, -1 do
    while n <= #head and head[n].behind == left do
      line[#line + 1] = head[n].text
      n = n + 1
    end
    line[#line + 1] = others[left]
  end
  push_all('LPUSH', line)
  done(head)
end
-- The queue may have been deleted in the meantime: then Sidekiq needs its name again.
if size == 0 and count > 0 then try('SADD', KEYS[3], ARGV[1]) end
return outcomes
