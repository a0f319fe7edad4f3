"""The outbox: the messages that their channel has not accepted yet, and their maintenance."""

from __future__ import annotations

from ...store.redis_store import Store
from .. import keys
from ..notification import QueuedNotification
from ..store import ENQUEUE, queued_fields, queued_keys
from ..stored_values import decode_text
from .notification_claim import DeliveryAttempt, NotificationClaim
from .outbox_claims import MAX_AGE_MS, MAX_PAUSE_MS, VISIBILITY_MS, OutboxClaims

MAX_EXPIRED = 50

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
  'channel', ARGV[5], 'fingerprint', ARGV[6], 'episode', ARGV[7], 'kind', ARGV[8], 'group', ARGV[9],
  'fallback', ARGV[10])
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1])
enqueue(KEYS[4], KEYS[3], ARGV[3], ARGV[1])
return 1
"""
)

# KEYS unsent, dead. ARGV maximum messages to check, visibility of a claim in ms, longest wait between two attempts in
# ms. Makes messages due again that nothing would ever send, because their due set or chain was lost, and those that
# would be sent far too late after the clock was set back; removes ids without a message. Returns how many are due
# again. The keys that it builds from the ids it finds share the hash tag, and so the slot, of the KEYS.
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
  local m = redis.call('HMGET', msg(id), 'fingerprint', 'channel', 'lead', 'made', 'state')
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
      elseif redis.call('HEXISTS', msg(other), 'fingerprint') == 0 then
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


class Outbox:
    """The unsent messages in the store. Thread-safe.

    Every method raises BackendUnavailable and costs 1 round trip unless it states another cost.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims = OutboxClaims(store)

    def fail_expired(self, now: float) -> int:
        """Give up messages that were not sent within a day, such as those to a channel that no longer exists.

        Returns how many. The leader calls it periodically. Cost: 1 round trip, plus one per message, at most 50.
        """
        before = int(now * 1000) - MAX_AGE_MS - VISIBILITY_MS
        (names,) = self._store.read_keys(("ZRANGEBYSCORE", keys.UNSENT, "-inf", before, "LIMIT", 0, MAX_EXPIRED))
        names = names or ()
        for name in names:
            message_id = decode_text(name)
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
            self._claims.close_claim(
                NotificationClaim(message_id, channel, "", 0, 0.0, attempt.kind, ()), "dead", attempt
            )
        return len(names)

    def maintain(self, now: float) -> None:
        """Run the leader's periodic maintenance: `fail_expired` and `repair_entries`."""
        self.fail_expired(now)
        self.repair_entries()

    def repair_entries(self) -> int:
        """Make messages due that nothing would send any longer, because one of their keys was lost or the store's clock
        was set back. Returns how many. The leader calls it periodically."""
        arguments = (keys.MAX_DEAD, VISIBILITY_MS, MAX_PAUSE_MS)
        return int(self._store.run_script(_REPAIR_ENTRIES, (keys.UNSENT, keys.DEAD), *arguments))

    def enqueue(self, queued: QueuedNotification) -> bool:
        """Add a notification that belongs to no alert state; False when its id already exists."""
        return bool(self._store.run_script(_ENQUEUE, (keys.UNSENT, *queued_keys(queued)), *queued_fields(queued)))

    def requeue_failed(self, message_id: str, fingerprint: str) -> bool:
        """Queue a failed message again; False when it is not given up."""
        channel = message_id.rpartition(":")[2]
        return bool(
            self._store.run_script(
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
