"""The marks that were added in Queuedeck: one sorted set in the store, by time.

A member is the id of its mark, followed by the mark itself. The id begins with a digest of text and version, so that a
script finds the same mark again without decoding.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

from msgspec.structs import replace

from ..errors import Conflict, NotFound
from ..model import Mark
from ..redact import mask_text
from ..store.packing import pack, unpack
from ..store.redis_store import PREFIX, Store
from .new_mark import AHEAD_S, KEEP_S, MAX_TEXT, MAX_VERSION, is_link

MARKS = f"{PREFIX}:marks"  # sorted set of packed marks by time, at most MAX_MARKS of KEEP_S
MAX_MARKS = 1000
# The same text and version again within this time is the same mark: each host of a deployment may send it.
SAME_WITHIN_S = 60.0
DIGEST_LENGTH, ID_LENGTH = 16, 24

# KEYS marks. ARGV maximum, seconds in which the same mark counts once, time of the oldest to keep, time of the newest
# that is possible, TTL in ms, time of the mark, its digest, its member. Returns the member of the stored mark, "" if
# there are too many newer ones.
_ADD = """
local at, within = tonumber(ARGV[6]), tonumber(ARGV[2])
for _, known in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], at - within, at + within)) do
  if string.sub(known, 1, #ARGV[7]) == ARGV[7] then return known end
end
for _, range in ipairs({{'-inf', '(' .. ARGV[3]}, {'(' .. ARGV[4], '+inf'}}) do
  local gone = redis.call('ZRANGEBYSCORE', KEYS[1], range[1], range[2], 'LIMIT', 0, 500)
  if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
end
redis.call('ZADD', KEYS[1], ARGV[6], ARGV[8])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return redis.call('ZSCORE', KEYS[1], ARGV[8]) and ARGV[8] or ''
"""

# KEYS marks. ARGV maximum, id. Returns the member that was deleted, "" if there is none.
_DELETE = """
for _, known in ipairs(redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do
  if string.sub(known, 1, #ARGV[2]) == ARGV[2] then
    redis.call('ZREM', KEYS[1], known)
    return known
  end
end
return ''
"""


class AddedMark(NamedTuple):
    """A stored mark; `is_new` False: the same one had been added within SAME_WITHIN_S."""

    mark: Mark
    is_new: bool


class MarkStore:
    """Writes and reads the marks of the store. Thread-safe. Raises BackendUnavailable, Forbidden."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add_mark(self, mark: Mark) -> AddedMark:
        """Store a mark of `build_mark`, or return the same one that is already there.

        Raises Conflict for one that is older than MAX_MARKS others. Cost: 1 round trip.
        """
        digest = _digest_of(mark)
        new = replace(mark, id=digest + secrets.token_hex((ID_LENGTH - DIGEST_LENGTH) // 2))
        now = self._store.now_s()
        arguments = (_plain(now - KEEP_S), _plain(now + 2 * AHEAD_S), int(KEEP_S * 1000), _plain(mark.at), digest)
        raw = self._store.run_script(_ADD, (MARKS,), MAX_MARKS, SAME_WITHIN_S, *arguments, _encode_mark(new))
        if not raw:
            raise Conflict(f"There are {MAX_MARKS:,} newer marks already.", hint="Delete some of them first.")
        stored = _decode_mark(raw)
        return AddedMark(new, is_new=True) if stored is None or stored.id == new.id else AddedMark(stored, is_new=False)

    def list_marks(self, start_s: float, end_s: float) -> list[Mark]:
        """The marks between two times, newest first, without unreadable members. Cost: 1 round trip."""
        wanted = ("ZREVRANGEBYSCORE", MARKS, _plain(end_s), _plain(start_s), "LIMIT", 0, MAX_MARKS)
        (reply,) = self._store.read_keys(wanted)
        marks = (_decode_mark(raw) for raw in reply or ())
        return [mark for mark in marks if mark is not None and start_s <= mark.at <= end_s]

    def find_mark(self, mark_id: str) -> Mark:
        """One mark. Raises NotFound. Cost: 1 round trip."""
        now = self._store.now_s()
        found = next((mark for mark in self.list_marks(now - KEEP_S, now + AHEAD_S) if mark.id == mark_id), None)
        if found is None:
            raise _no_such_mark()
        return found

    def delete_mark(self, mark_id: str) -> Mark:
        """Delete a mark, and return it. Raises NotFound. Cost: 1 round trip."""
        raw = self._store.run_script(_DELETE, (MARKS,), MAX_MARKS, mark_id) if is_mark_id(mark_id) else b""
        deleted = _decode_mark(raw) if raw else None
        if deleted is None:
            raise _no_such_mark()
        return deleted


def is_mark_id(text: str) -> bool:
    """Whether `text` can be the id of a mark."""
    return len(text) == ID_LENGTH and text.isascii() and text.isalnum()


def _no_such_mark() -> NotFound:
    return NotFound("This mark no longer exists.", hint=f"Marks are kept for {KEEP_S / 86_400:.0f} days.")


def _digest_of(mark: Mark) -> str:
    said = f"{mark.text}\0{mark.version or ''}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(said, digest_size=DIGEST_LENGTH // 2).hexdigest()


def _encode_mark(mark: Mark) -> bytes:
    return (mark.id or "").encode() + pack(mark)


def _decode_mark(raw: bytes) -> Mark | None:
    """The mark of a member; None for one that Queuedeck did not write."""
    mark = unpack(raw[ID_LENGTH:], Mark) if isinstance(raw, bytes) else None
    if mark is None or not mark.text or mark.id is None or not is_mark_id(mark.id):
        return None
    return Mark(
        at=mark.at,
        text=mark.text[:MAX_TEXT],
        version=mark.version[:MAX_VERSION] if mark.version else None,
        link=mask_text(mark.link) if mark.link and is_link(mark.link) else None,
        id=mark.id,
        who=mark.who[:MAX_TEXT] if mark.who else None,
    )


def _plain(seconds: float) -> str:
    return f"{seconds:.3f}"
