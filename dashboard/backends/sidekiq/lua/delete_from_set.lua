-- Deletes jobs of a sorted set. KEYS: the set, the deletions that can be undone. ARGV: now; then per job: score, its
-- entry or '', its stamp if the entry is too long to send, a token that identifies the deletion or ''.
may_remove(KEYS[1])
may_remember(KEYS[2], tonumber(ARGV[1]))

local function stamped(score, stamp)
  local found
  local size = redis.call('ZCOUNT', KEYS[1], score, score)
  local first = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. score)
  each_member(KEYS[1], 'zset', false, first, first + math.min(size, 1000), 8 * OTHERS_BYTES, function(member)
    if #member > LIMIT and stamp_of(member) == stamp then found = member end
    return found ~= nil
  end)
  return found
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
