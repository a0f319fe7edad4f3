"""The chain of the audit log: each stored event has a number, the hash of the event before it, and its own hash.

A script in Redis numbers and chains the events, so that those of several processes are in one order and none is lost.
It has no secret. With `secret_key`, the process that records an event also signs it, together with the number and hash
of the newest event that it knows to be stored. Removing, replacing or reordering earlier events contradicts that
signature, even if all hashes after them are computed again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..store.redis_store import PREFIX

AUDIT = f"{PREFIX}:audit"  # stream of JSON events with seal and link, at most `audit_max_events`
# String `<number of the newest event> <its hash> <number of the oldest that was not trimmed>`. At most 80 bytes; never
# expires, or the end of the log could be removed without a trace.
HEAD = f"{PREFIX}:audit:head"
DEFAULT_MAX_EVENTS = 10_000
DAY_S = 86_400
# Entries that one write removes because of their age; there are more only after the setting was changed.
_TRIM_AT_ONCE = 100
_DIGEST = re.compile(r"[0-9a-f]{40}\Z")
_NUMBER = re.compile(r"[1-9][0-9]{0,14}\Z")
_ANY_NUMBER = re.compile(r"-?[0-9]{1,15}\Z")
NO_DIGEST = "-"
_PURPOSE = b"queuedeck audit log "

# For scripts that make the change that they record, so that no other process can record an effect of it first. Call it
# before the change: when Redis is out of memory, a script that has already written can continue, and trimming needs no
# memory. Thus actions that succeed in that state are recorded too. `chained(stream, head, packed)` appends the event
# and returns "<number> <hash>"; `record` is the same for events that must not prevent the change: 0 if the event could
# not be stored. `packed` is what AuditChain.pack_event returns.
RECORD = f"""
local function chained(stream, head, packed)
  local most, age_ms, seal, event = string.match(packed, '^(%d+) (%d+) ([^\\n]*)\\n(.*)$')
  local number, hash, first = string.match(redis.call('GET', head) or '', '^(%d+) (%x+) (%-?%d+)$')
  if number and #number <= 15 and #hash == 40 and #first <= 15 then
    number, first = tonumber(number), tonumber(first)
  else
    number, hash, first = 0, '{NO_DIGEST}', 1 - redis.call('XLEN', stream)
  end
  first = first + redis.call('XTRIM', stream, 'MAXLEN', '~', most)
  if age_ms ~= '0' then
    local last_ms = math.max(0, tonumber(redis.call('TIME')[1]) * 1000 - tonumber(age_ms))
    local old = #redis.call('XRANGE', stream, '-', string.format('%.0f', last_ms), 'COUNT', {_TRIM_AT_ONCE})
    if old > 0 then first = first + redis.call('XTRIM', stream, 'MAXLEN', redis.call('XLEN', stream) - old) end
  end
  local link = string.format('%.0f', number + 1) .. ' ' .. hash
  local digest = redis.sha1hex(link .. ' ' .. seal .. '\\n' .. event)
  local stored, why = pcall(append, stream, 2 ^ 53, 'event', event, 'seal', seal, 'link', link .. ' ' .. digest)
  if stored then number, hash = number + 1, digest end
  local newest = string.format('%.0f', number) .. ' ' .. hash
  if hash ~= '{NO_DIGEST}' then redis.call('SET', head, newest .. ' ' .. string.format('%.0f', first)) end
  if not stored then error(why) end
  return newest
end
local function record(stream, head, packed)
  local stored, newest = pcall(chained, stream, head, packed)
  return stored and newest or 0
end
"""
# KEYS stream, head. ARGV event as AuditChain.pack_event returns it. Returns "<number> <hash>".
ADD = f"{RECORD} return chained(KEYS[1], KEYS[2], ARGV[1])"


@dataclass(frozen=True, slots=True)
class Head:
    """What is stored beside the events: the newest one, and the number of the oldest that was not trimmed.

    `first` is below 1 while there are entries from before the chain began, by their number.
    """

    number: int
    digest: str
    first: int

    @property
    def digest_bytes(self) -> bytes:
        """The hash in half as many bytes."""
        return bytes.fromhex(self.digest)


@dataclass(frozen=True, slots=True)
class Link:
    """The place of an event in the chain, and what was hashed. `before` = the hash of the event before it."""

    number: int
    before: str
    digest: str
    seal: str
    event: bytes

    @property
    def is_intact(self) -> bool:
        """Whether the event and its place are those that were hashed."""
        hashed = f"{self.number} {self.before} {self.seal}\n".encode("utf-8", "surrogateescape") + self.event
        return hashlib.sha1(hashed, usedforsecurity=False).hexdigest() == self.digest


@dataclass(frozen=True, slots=True)
class Seal:
    """What the process that recorded an event adds to it. `seen_number`, `seen_digest` = the newest event that it knew
    to be stored, 0 and "-" for none; `signature` = None without secret_key.
    """

    nonce: str
    seen_number: int
    seen_digest: str
    signature: str | None


class AuditChain:
    """Seals the events of one process, and knows how many events are kept. Thread-safe.

    `max_age_s` None: events are kept regardless of their age.
    """

    def __init__(
        self,
        secret_key: str | None = None,
        max_events: int = DEFAULT_MAX_EVENTS,
        max_age_s: float | None = None,
        *,
        prefix: str = PREFIX,
    ) -> None:
        """`prefix`: of all keys in the store."""
        self.max_events = max_events
        self.max_age_s = max_age_s
        self._key = signing_key(secret_key, prefix) if secret_key else None
        self._seen = f"0 {NO_DIGEST}"  # replaced as a whole, so without a lock: an older one is true as well

    def pack_event(self, event: bytes) -> bytes:
        """The event as the argument of RECORD."""
        sealed = f"{secrets.token_hex(8)} {self._seen}"
        signature = sign(self._key, sealed, event) if self._key else NO_DIGEST
        max_age_ms = int((self.max_age_s or 0) * 1000)
        return f"{self.max_events} {max_age_ms} {sealed} {signature}\n".encode() + event

    def note_stored(self, reply: Any) -> bool:
        """Whether the event was stored, from what `record` or `chained` returned; remembers its number and hash."""
        if not isinstance(reply, bytes):
            return False
        self._seen = reply.decode("ascii", "replace")
        return True


def signing_key(secret_key: str, prefix: str = PREFIX) -> bytes:
    """The key of signatures: derived, so that a signature reveals nothing about those of sessions, and that of one
    store prefix is none of another."""
    return hmac.digest(secret_key.encode(), _PURPOSE + prefix.encode(), "sha256")


def sign(key: bytes, sealed: str, event: bytes) -> str:
    """The signature of an event; `sealed` = the nonce, and the number and hash of the newest known event."""
    return hmac.digest(key, f"{sealed}\n".encode() + event, "sha256").hex()


def is_signed_by(keys: Sequence[bytes], seal: Seal, event: bytes) -> bool:
    """Whether the signature is that of one of the keys."""
    sealed = f"{seal.nonce} {seal.seen_number} {seal.seen_digest}"
    return any(hmac.compare_digest(sign(key, sealed, event), seal.signature or "") for key in keys)


def read_head(raw: Any) -> Head | None:
    """The stored head; None if there is none, or it is not one."""
    parts = raw.decode("ascii", "replace").split(" ") if isinstance(raw, bytes) else []
    if len(parts) != 3 or not (_NUMBER.match(parts[0]) and _DIGEST.match(parts[1]) and _ANY_NUMBER.match(parts[2])):
        return None
    return Head(int(parts[0]), parts[1], int(parts[2]))


def read_link(fields: Any) -> Link | None:
    """The place of a stored entry in the chain; None for an entry that is not part of it."""
    if not isinstance(fields, list) or fields[::2] != [b"event", b"seal", b"link"] or len(fields) != 6:
        return None
    event, seal, link = fields[1::2]
    parts = link.decode("ascii", "replace").split(" ") if len(link) <= 120 else []
    if len(parts) != 3 or not _NUMBER.match(parts[0]) or not _DIGEST.match(parts[2]):
        return None
    if not (_DIGEST.match(parts[1]) or parts[1] == NO_DIGEST):
        return None
    return Link(int(parts[0]), parts[1], parts[2], seal.decode("utf-8", "surrogateescape"), event)


def read_seal(text: str) -> Seal | None:
    """The parts of a seal; None if it is not one."""
    parts = text.split(" ") if len(text) <= 200 else []
    if len(parts) != 4 or not _ANY_NUMBER.match(parts[1]) or not (_DIGEST.match(parts[2]) or parts[2] == NO_DIGEST):
        return None
    return Seal(parts[0], int(parts[1]), parts[2], None if parts[3] == NO_DIGEST else parts[3])
