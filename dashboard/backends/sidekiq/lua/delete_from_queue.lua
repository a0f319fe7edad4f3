-- Deletes jobs of a queue. KEYS: the list, the deletions that can be undone. ARGV: now; how many jobs nearer to the served
-- end earlier calls removed; then per job, nearest first: its position from there as it was found, its entry or '', its
-- stamp if the entry is too long to send, a token or ''.
may_remember(KEYS[2], tonumber(ARGV[1]))

local function stamped(place, stamp)
  for at = place, math.max(0, place - NEAR), -1 do
    local text = redis.call('LINDEX', KEYS[1], -at - 1)
    if text and #text > LIMIT and stamp_of(text) == stamp then return text, at end
  end
  return nil
end

local outcomes, jobs, of = {}, {}, {}
for i = 3, #ARGV, 4 do
  local job = {place = tonumber(ARGV[i]) - tonumber(ARGV[2]), text = ARGV[i + 1], token = ARGV[i + 3]}
  if ARGV[i + 2] ~= '' then job.text, job.place = stamped(job.place, ARGV[i + 2]) end
  outcomes[#outcomes + 1] = GONE
  if job.text then
    jobs[#jobs + 1] = job
    of[#jobs] = #outcomes
  end
end
for j, outcome in ipairs(take_out(KEYS[1], jobs)) do
  outcomes[of[j]] = outcome
  if outcome == DONE and jobs[j].token ~= '' then remember(KEYS[2], ARGV[1], jobs[j].token) end
end
return outcomes
