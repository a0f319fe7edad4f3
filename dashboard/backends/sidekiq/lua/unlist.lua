-- Jobs of a queue are deleted. KEYS: the list, the deletions that can be undone. ARGV: now; then per job: its place
-- from the served end, its entry or '', its stamp where the entry is too long to be sent, a token or ''.
may_remember(KEYS[2], tonumber(ARGV[1]))
local size = redis.call('LLEN', KEYS[1])
-- How far an entry that is told by its stamp may have moved since it was seen.
local NEAR = 50

local function stamped(place, stamp)
  for at = place, math.max(0, place - NEAR), -1 do
    local text = redis.call('LINDEX', KEYS[1], -at - 1)
    if text and #text > LIMIT and stamp_of(text) == stamp then return text end
  end
  return nil
end

local outcomes = {}
for i = 2, #ARGV, 4 do
  local place, entry, stamp, token = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if stamp ~= '' then entry = stamped(place, stamp) end
  local outcome = entry and take_out(KEYS[1], entry, place, size) or GONE
  if outcome == DONE and token ~= '' then remember(KEYS[2], ARGV[1], token) end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
