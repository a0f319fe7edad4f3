-- Jobs of a sorted set are deleted. KEYS: the set, the deletions that can be undone. ARGV: now; then per job: score,
-- its entry or '', its stamp where the entry is too long to be sent, a token to remember the deletion by or ''.
may_remove(KEYS[1])
may_remember(KEYS[2], tonumber(ARGV[1]))

local function stamped(score, stamp)
  local members = redis.call('ZRANGEBYSCORE', KEYS[1], score, score, 'LIMIT', 0, 1000)
  for n = 1, #members do
    if #members[n] > LIMIT and stamp_of(members[n]) == stamp then return members[n] end
  end
  return nil
end

local outcomes = {}
for i = 2, #ARGV, 4 do
  local score, entry, stamp, token = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if stamp ~= '' then entry = stamped(score, stamp) end
  local outcome = entry and not_at(KEYS[1], entry, score) or (not entry and GONE) or DONE
  if outcome == DONE then
    if token ~= '' then remember(KEYS[2], ARGV[1], token) end
    redis.call('ZREM', KEYS[1], entry)
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
