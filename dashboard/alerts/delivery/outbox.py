"""The outbox: unsent messages are claimed, sent and closed, at least once and in order per alert and channel.

Any process can deliver. Of each alert, only the oldest unsent message of a channel is ever due; the next one becomes
due when that one is closed. Messages claimed together stay together: a group is frozen at its first claim, so that a
second attempt is the same message with the same id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from ...model import Value
from ...sources.source import Reply
from ...store.packing import unpack
from ...store.redis_store import Store
from .. import keys
from ..notification import Notification, QueuedNotification
from ..store import ENQUEUE, message_fields, message_keys
from ..stored_values import parse_count

VISIBILITY_MS = 60_000
MAX_AGE_MS = 86_400_000
MAX_PAUSE_MS = 900_000  # the longest pause a provider can ask for; longer than any of our own
SENT_TTL_MS = 86_400_000
DEAD_TTL_MS = 7 * 86_400_000
MAX_SENT = 10_000
MAX_GROUP = 200
MAX_EXPIRED = 50
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
local function chain(fp) return sound(root .. ':chain:' .. channel .. ':' .. fp, 'l') end
-- The kind of a message merged with the next one of its chain, and the id of that one.
local function merged(id)
  local m = redis.call('HMGET', msg(id), 'kind', 'fp', 'episode')
  if m[1] == 'firing' then
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
  if redis.call('EXISTS', msg(id)) == 1 then lead = id break end
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

# KEYS due, unsent, dead, sent, the fallback's due, unnamed. ARGV prefix, channel, id, token, outcome (sent, dead,
# skipped), log entry, maximum log entries, TTL in ms when sent, when dead, maximum dead, fallback channel or "",
# maximum unnamed, their TTL in ms, then for each episode whose beginning was sent: "+" if it was only counted, "-" if
# it was named or ended, and the episode.
# Returns 1; 0 when it was closed already. Recording `sent` works regardless of who holds the claim now; giving it up
# needs the token.
_CLOSE_CLAIM = (
    f"""{ENQUEUE}"""
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
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local function divert(id)  -- the same message for the fallback channel
  local m = redis.call('HMGET', msg(id), 'episode', 'kind', 'fp', 'body', 'group')
  local other = string.sub(id, 1, #id - #channel) .. ARGV[11]
  if redis.call('EXISTS', msg(other)) == 1 then return end
  redis.call('HSET', msg(other), 'state', 'queued', 'attempts', '0', 'body', m[4], 'due', now, 'made', now,
    'channel', ARGV[11], 'fp', m[3], 'episode', m[1], 'kind', m[2], 'group', m[5], 'fallback', '')
  redis.call('ZADD', KEYS[2], now, other)
  enqueue(sound(root .. ':chain:' .. ARGV[11] .. ':' .. m[3], 'l'), KEYS[5], now, other)
end
local function close(id, state)
  local fp = redis.call('HGET', msg(id), 'fp')
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  if not fp then return end
  redis.call('HSET', msg(id), 'state', state, 'done', now)
  redis.call('PEXPIRE', msg(id), state == 'sent' and ARGV[8] or ARGV[9])
  local line = sound(root .. ':chain:' .. channel .. ':' .. fp, 'l')
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
  local m = redis.call('HMGET', msg(id), 'fp', 'episode', 'kind')
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

# KEYS due, sent. ARGV prefix, id, token, ms to wait, "1" when the attempt counts, log entry, maximum log entries.
_SCHEDULE_RETRY = """
append(KEYS[2], ARGV[7], 'e', ARGV[6])
local name = sound(ARGV[1] .. ':msg:' .. ARGV[2], 'h')
if redis.call('HGET', name, 'token') ~= ARGV[3] or redis.call('HGET', name, 'state') ~= 'sending' then return 0 end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('HSET', name, 'state', 'retry')
redis.call('HDEL', name, 'token')
if ARGV[5] ~= '1' then add(name, 'attempts', -1) end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), ARGV[2])
return 1
"""

# KEYS message, due, chain, unsent, dead. ARGV id. Returns 1 when a given-up message was queued again.
_REQUEUE_FAILED = (
    f"""{ENQUEUE}"""
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'dead' then return 0 end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempts', '0', 'due', now, 'made', now)
redis.call('HDEL', KEYS[1], 'members', 'merged', 'lead', 'token', 'done')
redis.call('PERSIST', KEYS[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZADD', KEYS[4], now, ARGV[1])
enqueue(KEYS[3], KEYS[2], now, ARGV[1])
return 1
"""
)

# KEYS unsent, message, due, chain. ARGV as a message of the store's commit. For test notifications, without a state.
_ENQUEUE = (
    f"""{ENQUEUE}"""
    + """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'state', 'queued', 'attempts', '0', 'body', ARGV[2], 'due', ARGV[3], 'made', ARGV[4],
  'channel', ARGV[5], 'fp', ARGV[6], 'episode', ARGV[7], 'kind', ARGV[8], 'group', ARGV[9], 'fallback', ARGV[10])
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1])
enqueue(KEYS[4], KEYS[3], ARGV[3], ARGV[1])
return 1
"""
)

# KEYS unsent, dead. ARGV maximum messages to check, visibility of a claim in ms, longest wait between two attempts in
# ms. Makes messages due again that nothing would ever send, because their due set or chain was lost, and those that
# would be sent far too late after the clock was set back; removes ids without a message. Returns how many are due
# again.
_REPAIR_ENTRIES = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local mended = 0
local function msg(id) return sound(prefix .. ':msg:' .. id, 'h') end
local function wound_back(id, due, made, state)  -- the due time by the current clock; nil: unchanged
  local at = tonumber(redis.call('ZSCORE', due, id) or nil)
  local later = (tonumber(made) or 0) - now
  if later > 1000 then
    redis.call('HSET', msg(id), 'made', now)
    redis.call('ZADD', KEYS[1], now, id)
  end
  if not at or at <= now then return nil end
  if state == 'sending' then return at > now + tonumber(ARGV[2]) and now + tonumber(ARGV[2]) or nil end
  if later > 1000 then return state == 'queued' and at - later or now end
  return at > now + tonumber(ARGV[3]) and now or nil
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[1]) - 1)) do
  if redis.call('EXISTS', msg(id)) == 0 then redis.call('ZREM', KEYS[2], id) end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do
  local m = redis.call('HMGET', msg(id), 'fp', 'channel', 'lead', 'made', 'state')
  local at = m[1] and m[2] and wound_back(id, sound(prefix .. ':due:' .. m[2], 'z'), m[4], m[5])
  if at then
    redis.call('ZADD', prefix .. ':due:' .. m[2], at, id)
    mended = mended + 1
  end
  if not m[1] or not m[2] then
    redis.call('ZREM', KEYS[1], id)
  elseif not m[3] or m[3] == id or redis.call('EXISTS', msg(m[3])) == 0 then
    local line = sound(prefix .. ':chain:' .. m[2] .. ':' .. m[1], 'l')
    local due = sound(prefix .. ':due:' .. m[2], 'z')
    local listed = false
    for _, other in ipairs(redis.call('LRANGE', line, 0, -1)) do
      if other == id then
        listed = true
      elseif redis.call('EXISTS', msg(other)) == 0 then
        redis.call('LREM', line, 1, other)
      end
    end
    if not listed then redis.call('RPUSH', line, id) end
    if redis.call('LINDEX', line, 0) == id and not redis.call('ZSCORE', due, id) then
      redis.call('ZADD', due, now, id)
      if m[3] and m[3] ~= id then redis.call('HDEL', msg(id), 'lead') end
      mended = mended + 1
    end
  end
end
return mended
"""


class DeliveryAttempt(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One delivery attempt, as the page of deliveries shows it. Contains no secret of a channel."""

    id: str
    channel: str
    kind: str
    rule_id: str
    rule_name: str
    severity: str
    at: float
    outcome: str  # sent, retry, dead, skipped
    status: str = ""
    answer: str = ""
    duration_s: float = 0.0
    attempt: int = 0
    lines: int = 1
    next_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClaimedNotification:
    """One message of a claim; `orphan`: the channel never got the beginning of its episode.

    `thread` = id of the message in which that beginning was sent, possibly with others; empty when it is unknown.
    """

    id: str
    note: Notification
    orphan: bool
    thread: str
    unnamed: bool = False  # the channel got the episode only as part of a count, not by name


@dataclass(frozen=True, slots=True)
class NotificationClaim:
    """Notifications claimed to be sent as one message. `kind` is `both` for pairs of beginning and end."""

    id: str
    channel: str
    token: str
    attempts: int
    age_s: float
    kind: str
    members: tuple[ClaimedNotification, ...]

    @property
    def fallback_channel(self) -> str | None:
        """The channel to use when this one gives up."""
        found = self.members[0].note.fallback if self.members else None
        return found if found != self.channel else None


class Outbox:
    """The unsent messages in the store. Thread-safe. Every method raises BackendUnavailable and costs 1 round trip."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def claim_next(
        self, channel: str, token: str, *, groups: bool, spacing_s: float, names: int = MAX_GROUP
    ) -> NotificationClaim | None:
        """Claim what is to be sent next on a channel, for 60 s; None when nothing is due.

        `names` = how many episodes one message can name; a message contains no more ends than that.
        """
        answer = self.store.run_script(
            _CLAIM,
            (keys.due_key(channel), keys.UNSENT, keys.pace_key(channel), keys.unnamed_key(channel)),
            *(
                self.store.prefix,
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
            note = unpack(body, Notification)
            kind = merged.decode("ascii", "replace")
            if note is not None:
                members.append(
                    ClaimedNotification(_decode_text(name), note, orphan == b"1", _decode_text(thread), unnamed == b"1")
                )
        age_s = max(0.0, (parse_count(now_ms) - (parse_count(made_ms) or parse_count(now_ms))) / 1000)
        return NotificationClaim(_decode_text(lead), channel, token, int(attempts), age_s, kind, tuple(members))

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
        done = self.store.run_script(
            _CLOSE_CLAIM,
            (
                *(keys.due_key(claim.channel), keys.UNSENT, keys.DEAD, keys.SENT),
                *(keys.due_key(fallback or claim.channel), keys.unnamed_key(claim.channel)),
            ),
            *(self.store.prefix, claim.channel, claim.id, claim.token, outcome, msgspec.json.encode(attempt), MAX_SENT),
            *(SENT_TTL_MS, DEAD_TTL_MS, keys.MAX_DEAD, fallback or "", keys.MAX_UNNAMED, keys.UNNAMED_TTL_MS),
            *(f"{'-' if by_name else '+'}{episode}" for episode, by_name in (named or {}).items()),
        )
        return bool(done)

    def schedule_retry(
        self, claim: NotificationClaim, wait_s: float, attempt: DeliveryAttempt, *, counts: bool
    ) -> bool:
        """Retry a claim after `wait_s`; False when another process holds it now."""
        done = self.store.run_script(
            _SCHEDULE_RETRY,
            (keys.due_key(claim.channel), keys.SENT),
            *(
                self.store.prefix,
                claim.id,
                claim.token,
                int(wait_s * 1000),
                int(counts),
                msgspec.json.encode(attempt),
                MAX_SENT,
            ),
        )
        return bool(done)

    def fail_expired(self, now: float) -> int:
        """Give up messages that were not sent within a day, such as those to a channel that no longer exists.

        Returns how many. The leader calls it periodically. Cost: 1 round trip, plus one per message, at most 50.
        """
        before = int(now * 1000) - MAX_AGE_MS - VISIBILITY_MS
        (names,) = self.store.read_keys(("ZRANGEBYSCORE", keys.UNSENT, "-inf", before, "LIMIT", 0, MAX_EXPIRED))
        names = names or ()
        for name in names:
            message_id = _decode_text(name)
            channel = message_id.rpartition(":")[2]
            attempt = DeliveryAttempt(
                id=message_id,
                channel=channel,
                kind=message_id.split(":")[-3] if message_id.count(":") >= 3 else "",
                rule_id="",
                rule_name="",
                severity="",
                at=now,
                outcome="dead",
                status="old",
                answer="not delivered within 24 h",
            )
            self.close_claim(NotificationClaim(message_id, channel, "", 0, 0.0, attempt.kind, ()), "dead", attempt)
        return len(names)

    def maintain(self, now: float) -> None:
        """Run the leader's periodic maintenance: `fail_expired` and `repair_entries`."""
        self.fail_expired(now)
        self.repair_entries()

    def repair_entries(self) -> int:
        """Make messages due that nothing would send any longer, because one of their keys was lost or the store's clock
        was set back. Returns how many. The leader calls it periodically."""
        arguments = (keys.MAX_DEAD, VISIBILITY_MS, MAX_PAUSE_MS)
        return int(self.store.run_script(_REPAIR_ENTRIES, (keys.UNSENT, keys.DEAD), *arguments))

    def enqueue(self, message: QueuedNotification) -> bool:
        """Add a message that belongs to no alert state; False when its id already exists."""
        return bool(self.store.run_script(_ENQUEUE, (keys.UNSENT, *message_keys(message)), *message_fields(message)))

    def requeue_failed(self, message_id: str, fingerprint: str) -> bool:
        """Queue an undelivered message again; False when it is not given up."""
        channel = message_id.rpartition(":")[2]
        return bool(
            self.store.run_script(
                _REQUEUE_FAILED,
                (
                    keys.message_key(message_id),
                    keys.due_key(channel),
                    keys.chain_key(channel, fingerprint),
                    keys.UNSENT,
                    keys.DEAD,
                ),
                message_id,
            )
        )


def _decode_text(raw: Reply) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
