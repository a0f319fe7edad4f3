"""Claims of unsent messages: claimed, sent and closed, at least once and in order per alert and channel.

Any process can deliver. Of each alert, only the oldest unsent message of a channel is ever due; the next one becomes
due when that one is closed. Messages claimed together stay together: a group is frozen at its first claim, so that a
second attempt is the same message with the same id.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...store.packing import unpack
from ...store.redis_store import Store
from .. import keys
from ..counters import COUNT
from ..notification import Notification
from ..store import ENQUEUE
from ..stored_values import decode_text, parse_count
from .notification_claim import ClaimedNotification, DeliveryAttempt, NotificationClaim

VISIBILITY_MS = 60_000
MAX_AGE_MS = 86_400_000
MAX_PAUSE_MS = 900_000  # the longest pause a provider can ask for; longer than any of our own
SENT_TTL_MS = 86_400_000
DEAD_TTL_MS = 7 * 86_400_000
MAX_SENT = 10_000
MAX_GROUP = 200
# How early a message can be sent with the first of its group: the longest possible group wait.
HORIZON_MS = 300_000

# The scripts of this module take the common key prefix and build the keys of messages and chains from the ids they
# find: these share the hash tag, and so the slot, of the KEYS.

# KEYS due, unsent, pace, unnamed. ARGV prefix, channel, token, visibility ms, horizon ms, maximum group size, "1" to
# group, ms until the channel can be sent to again, maximum number of ends that one message can name.
# Returns {} or {id, attempts, now ms, made ms, {member id, body, merged kind, "1" when its beginning was given up,
# id of the message that its episode began with, or "", "1" when the channel got the episode only as a count}, …}.
# Members whose beginning was given up form their own groups, because their end belongs to the fallback channel.
_CLAIM = """
local root, channel = ARGV[1], ARGV[2]
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
if tonumber(ARGV[8]) > 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  begin(KEYS[3], ARGV[8])
  if redis.call('EXISTS', KEYS[3]) == 1 then return {} end
end
local function msg(id) return sound(root .. ':msg:' .. id, 'h') end
local function chain(fingerprint) return sound(root .. ':chain:' .. channel .. ':' .. fingerprint, 'l') end
-- The kind of a message merged with the next one of its chain, and the id of that one.
local function merged(id)
  local m = redis.call('HMGET', msg(id), 'kind', 'fingerprint', 'episode')
  if m[1] == 'firing' and m[2] then
    local follower = redis.call('LINDEX', chain(m[2]), 1)
    if follower then
      local f = redis.call('HMGET', msg(follower), 'kind', 'episode')
      if f[1] == 'resolved' and f[2] == m[3] then return 'both', follower end
    end
  end
  return m[1], nil
end
local function began(m)  -- whether the beginning was given up, and the message that it was sent in
  local orphan, thread = '0', ''
  for _, first in ipairs({'firing', 'flapping'}) do
    local found = redis.call('HMGET', msg(m.episode .. ':' .. first .. ':1:' .. channel), 'state', 'lead')
    if found[2] then thread = found[2] end
    if found[1] == 'dead' and (m.kind == 'resolved' or m.kind == 'reminder') then orphan = '1' end
  end
  return orphan, thread
end
local function about(id)
  local m = redis.call('HMGET', msg(id), 'kind', 'episode')
  return {kind = m[1] or '', episode = m[2] or ''}
end
local function unnamed(m)
  return m.kind == 'resolved' and redis.call('ZSCORE', KEYS[4], m.episode) and '1' or '0'
end
local lead
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 50)) do
  -- Without a fingerprint, it has expired or was damaged: it must not hold up the channel.
  if redis.call('HEXISTS', msg(id), 'fingerprint') == 1 then lead = id break end
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
if not lead then return {} end
local frozen = redis.call('HGET', msg(lead), 'members')
if frozen and not string.find('\\n' .. frozen .. '\\n', '\\n' .. lead .. '\\n', 1, true) then frozen = nil end
if not frozen then
  local kind, follower = merged(lead)
  local group = redis.call('HGET', msg(lead), 'group')
  local members, count = {lead}, 1
  if follower then members[#members + 1] = follower end
  if ARGV[7] == '1' then
    local of = about(lead)
    local orphan, named = began(of), unnamed(of) == '0' and 1 or 0
    local near = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now + tonumber(ARGV[5]), 'LIMIT', 0, 1000)
    for _, id in ipairs(near) do
      if count >= tonumber(ARGV[6]) then break end
      local m = redis.call('HMGET', msg(id), 'group', 'members')
      if id ~= lead and m[1] == group and not m[2] then
        local other, behind = merged(id)
        local m = about(id)
        local more = kind == 'resolved' and unnamed(m) == '0' and 1 or 0
        if other == kind and named + more <= tonumber(ARGV[9]) and began(m) == orphan then
          named = named + more
          members[#members + 1] = id
          if behind then members[#members + 1] = behind end
          redis.call('ZREM', KEYS[1], id)
          count = count + 1
        end
      end
    end
  end
  frozen = table.concat(members, '\\n')
  redis.call('HSET', msg(lead), 'members', frozen, 'merged', kind)
  for _, id in ipairs(members) do redis.call('HSET', msg(id), 'lead', lead) end
end
local attempts = add(msg(lead), 'attempts', 1)
redis.call('HSET', msg(lead), 'token', ARGV[3], 'state', 'sending')
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), lead)
if tonumber(ARGV[8]) > 0 then redis.call('SET', KEYS[3], '1', 'PX', ARGV[8]) end
local kind = redis.call('HGET', msg(lead), 'merged')
local answer = {lead, attempts, now, redis.call('HGET', msg(lead), 'made')}
for id in string.gmatch(frozen, '[^\\n]+') do
  local m = redis.call('HMGET', msg(id), 'body', 'kind', 'episode')
  if m[1] then
    local of = {kind = m[2] or '', episode = m[3] or ''}
    local orphan, thread = began(of)
    answer[#answer + 1] = {id, m[1], kind, orphan, thread, unnamed(of)}
  end
end
return answer
"""

# KEYS due, unsent, dead, sent, the fallback's due, unnamed, counters. ARGV prefix, channel, id, token, outcome (sent,
# dead, skipped), log entry, maximum log entries, TTL in ms when sent, when dead, maximum dead, fallback channel or "",
# maximum unnamed, their TTL in ms, then for each episode whose beginning was sent: "+" if it was only counted, "-" if
# it was named or ended, and the episode.
# Returns 1; 0 when it was closed already. Recording `sent` works regardless of who holds the claim now; giving it up
# needs the token.
_CLOSE_CLAIM = (
    f"""{ENQUEUE}{COUNT}"""
    + """
local root, channel, lead, outcome = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local function msg(name) return sound(root .. ':msg:' .. name, 'h') end
local head = redis.call('HMGET', msg(lead), 'state', 'token', 'members')
append(KEYS[4], ARGV[7], 'e', ARGV[6])
if not head[1] then  -- expired, or not one of our messages
  redis.call('ZREM', KEYS[1], lead)
  redis.call('ZREM', KEYS[2], lead)
  return 0
end
if head[1] == 'sent' or head[1] == 'dead' or head[1] == 'skipped' then return 0 end
if outcome ~= 'sent' and ARGV[4] ~= '' and head[2] ~= ARGV[4] then return 0 end
if outcome ~= 'skipped' then count(KEYS[7], outcome .. ' ' .. channel, 1) end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local function divert(id)  -- the same message for the fallback channel
  local m = redis.call('HMGET', msg(id), 'episode', 'kind', 'fingerprint', 'body', 'group')
  local other = string.sub(id, 1, #id - #channel) .. ARGV[11]
  if redis.call('EXISTS', msg(other)) == 1 then return end
  redis.call('HSET', msg(other), 'state', 'queued', 'attempts', '0', 'body', m[4], 'due', now, 'made', now,
    'channel', ARGV[11], 'fingerprint', m[3], 'episode', m[1], 'kind', m[2], 'group', m[5], 'fallback', '')
  redis.call('ZADD', KEYS[2], now, other)
  enqueue(sound(root .. ':chain:' .. ARGV[11] .. ':' .. m[3], 'l'), KEYS[5], now, other)
end
local function close(id, state)
  local fingerprint = redis.call('HGET', msg(id), 'fingerprint')
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  if not fingerprint then return end
  redis.call('HSET', msg(id), 'state', state, 'done', now)
  redis.call('PEXPIRE', msg(id), state == 'sent' and ARGV[8] or ARGV[9])
  local line = sound(root .. ':chain:' .. channel .. ':' .. fingerprint, 'l')
  redis.call('LREM', line, 1, id)
  local after = redis.call('LINDEX', line, 0)
  if after and not redis.call('ZSCORE', KEYS[1], after) then
    redis.call('ZADD', KEYS[1], redis.call('HGET', msg(after), 'due') or now, after)
  end
end
for n = 14, #ARGV do
  local episode = string.sub(ARGV[n], 2)
  if string.sub(ARGV[n], 1, 1) == '-' then redis.call('ZREM', KEYS[6], episode)
  else redis.call('ZADD', KEYS[6], now, episode) end
end
if #ARGV >= 14 and redis.call('EXISTS', KEYS[6]) == 1 then
  redis.call('ZREMRANGEBYRANK', KEYS[6], 0, -tonumber(ARGV[12]) - 1)
  redis.call('PEXPIRE', KEYS[6], ARGV[13])
end
for id in string.gmatch(head[3] or lead, '[^\\n]+') do
  local m = redis.call('HMGET', msg(id), 'fingerprint', 'episode', 'kind')
  if outcome == 'dead' and m[1] then
    redis.call('ZADD', KEYS[3], now, id)
    if ARGV[11] ~= '' then divert(id) end
  elseif outcome == 'skipped' and ARGV[11] ~= '' and m[1] then
    divert(id)
  end
  close(id, outcome)
end
local over = redis.call('ZCARD', KEYS[3]) - tonumber(ARGV[10])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[3], 0, over - 1) end
return 1
"""
)

# KEYS due, sent, counters. ARGV prefix, id, token, ms to wait, "1" when the attempt counts, log entry, maximum log
# entries, channel.
_SCHEDULE_RETRY = f"""{COUNT}
append(KEYS[2], ARGV[7], 'e', ARGV[6])
local name = sound(ARGV[1] .. ':msg:' .. ARGV[2], 'h')
if redis.call('HGET', name, 'token') ~= ARGV[3] or redis.call('HGET', name, 'state') ~= 'sending' then return 0 end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('HSET', name, 'state', 'retry')
redis.call('HDEL', name, 'token')
if ARGV[5] ~= '1' then add(name, 'attempts', -1) end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), ARGV[2])
count(KEYS[3], 'retried ' .. ARGV[8], 1)
return 1
"""


class OutboxClaims:
    """Claims messages of the outbox and closes the claims. Thread-safe.

    Every method raises BackendUnavailable and costs 1 round trip.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def claim_next(
        self, channel: str, token: str, *, groups: bool, spacing_s: float, names: int = MAX_GROUP
    ) -> NotificationClaim | None:
        """Claim what is to be sent next on a channel, for 60 s; None when nothing is due.

        `names` = how many episodes one message can name; a message contains no more ends than that.
        """
        answer = self._store.run_script(
            _CLAIM,
            (keys.due_key(channel), keys.UNSENT, keys.pace_key(channel), keys.unnamed_key(channel)),
            *(
                self._store.prefix,
                channel,
                token,
                VISIBILITY_MS,
                HORIZON_MS,
                MAX_GROUP,
                int(groups),
                int(spacing_s * 1000),
                names,
            ),
        )
        if not answer:
            return None
        lead, attempts, now_ms, made_ms, *rows = answer
        members: list[ClaimedNotification] = []
        kind = ""
        for name, body, merged, orphan, thread, unnamed in rows:
            notification = unpack(body, Notification)
            kind = merged.decode("ascii", "replace")
            if notification is not None:
                members.append(
                    ClaimedNotification(
                        decode_text(name), notification, orphan == b"1", decode_text(thread), unnamed == b"1"
                    )
                )
        age_s = max(0.0, (parse_count(now_ms) - (parse_count(made_ms) or parse_count(now_ms))) / 1000)
        return NotificationClaim(decode_text(lead), channel, token, int(attempts), age_s, kind, tuple(members))

    def close_claim(
        self,
        claim: NotificationClaim,
        outcome: str,
        attempt: DeliveryAttempt,
        *,
        fallback: str | None = None,
        named: Mapping[str, bool] | None = None,
    ) -> bool:
        """Close a claim as `sent`, `dead` (given up) or `skipped` (not needed); False when it was already closed.

        With `fallback`, what is given up or skipped is sent there. `named` = for each episode that the message
        announced for the first time, or ended, whether by name: an episode that was only counted is not named at its
        end either.
        """
        done = self._store.run_script(
            _CLOSE_CLAIM,
            (
                *(keys.due_key(claim.channel), keys.UNSENT, keys.DEAD, keys.SENT),
                *(keys.due_key(fallback or claim.channel), keys.unnamed_key(claim.channel), keys.COUNTERS),
            ),
            *(
                self._store.prefix,
                claim.channel,
                claim.id,
                claim.token,
                outcome,
                msgspec.json.encode(attempt),
                MAX_SENT,
            ),
            *(SENT_TTL_MS, DEAD_TTL_MS, keys.MAX_DEAD, fallback or "", keys.MAX_UNNAMED, keys.UNNAMED_TTL_MS),
            *(f"{'-' if by_name else '+'}{episode}" for episode, by_name in (named or {}).items()),
        )
        return bool(done)

    def schedule_retry(
        self, claim: NotificationClaim, wait_s: float, attempt: DeliveryAttempt, *, counts: bool
    ) -> bool:
        """Retry a claim after `wait_s`; False when another process holds it now."""
        done = self._store.run_script(
            _SCHEDULE_RETRY,
            (keys.due_key(claim.channel), keys.SENT, keys.COUNTERS),
            *(
                self._store.prefix,
                claim.id,
                claim.token,
                int(wait_s * 1000),
                int(counts),
                msgspec.json.encode(attempt),
                MAX_SENT,
                claim.channel,
            ),
        )
        return bool(done)
