-- Deleted jobs of a queue are put back. KEYS: the list, the deletions that can be undone, `queues`. ARGV: the queue's
-- name; then per job: its place from the served end, entry, token; nearest to the served end first.
-- Only a deletion that is remembered is undone, and only once.

-- So many jobs may be taken up and put behind those that come back; each costs as much as passing over five.
local FEW, FIVE = 5000, 5
local SLICE = 1000
local size = redis.call('LLEN', KEYS[1])
may_remove(KEYS[2])
local outcomes, back = {}, {}
for i = 2, #ARGV, 3 do
  local remembered = redis.call('ZSCORE', KEYS[2], ARGV[i + 2])
  outcomes[#outcomes + 1] = remembered and DONE or CHANGED
  if remembered and not back[ARGV[i + 2]] then
    back[ARGV[i + 2]] = true
    -- Two that had one place come one after the other; none comes further back than the queue is long.
    local place = math.min(math.max(tonumber(ARGV[i]), #back > 0 and back[#back].place + 1 or 0), size + #back)
    back[#back + 1] = {place = place, text = ARGV[i + 1], token = ARGV[i + 2], n = #outcomes}
  end
end
if #back == 0 then return outcomes end

local function undone(job)
  redis.call('ZREM', KEYS[2], job.token)
end

local function one_by_one()
  for _, job in ipairs(back) do
    local put
    if job.place >= redis.call('LLEN', KEYS[1]) then
      put = try('LPUSH', KEYS[1], job.text)
    else
      put = try('LINSERT', KEYS[1], 'AFTER', redis.call('LINDEX', KEYS[1], -job.place - 1), job.text)
    end
    if failed(put) then outcomes[job.n] = put.err else undone(job) end
  end
end

-- The jobs that are next to run are taken up, and all are pushed again in their order.
local function together(ahead)
  local others = ahead > 0 and redis.call('LRANGE', KEYS[1], -ahead, -1) or {}
  -- From here on nothing may fail: this shows that taking up and pushing are permitted.
  local first = try('RPUSH', KEYS[1], back[1].text)
  local cut = failed(first) and first or try('LTRIM', KEYS[1], 0, -2)
  if failed(cut) then
    for _, job in ipairs(back) do outcomes[job.n] = cut.err end
    if not failed(first) then
      outcomes[back[1].n] = DONE
      undone(back[1])
    end
    return
  end
  if ahead > 0 then redis.call('LTRIM', KEYS[1], 0, -ahead - 1) end
  local line, n, other = {}, #back, 1
  for place = back[#back].place, 0, -1 do
    if n > 0 and back[n].place == place then
      line[#line + 1] = back[n].text
      n = n - 1
    else
      line[#line + 1] = others[other]
      other = other + 1
    end
  end
  for start = 1, #line, SLICE do
    redis.call('RPUSH', KEYS[1], unpack(line, start, math.min(#line, start + SLICE - 1)))
  end
  for _, job in ipairs(back) do undone(job) end
end

local last = back[#back]
local ahead = last.place - (#back - 1)
if ahead <= FEW and ahead * FIVE <= (size - last.place) * #back + FIVE * SLICE then together(ahead) else one_by_one() end
-- The queue may have been removed meanwhile: then Sidekiq must learn its name again.
if size == 0 then try('SADD', KEYS[3], ARGV[1]) end
return outcomes
