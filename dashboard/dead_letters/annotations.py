"""What is remembered of error groups, and what people say of them: kept in the store, shared by all processes.

`{queuedeck}:groups` is one hash with a field `<fingerprint>:<word>` for each thing known; `{queuedeck}:groups:seen` a
sorted set of fingerprints by when they were last there, which bounds the hash: of more than MAX_KEPT groups the least
recently seen are dropped. Whatever else may write there, a value that is none of ours counts as not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import NoPermissionError

from ..errors import BackendUnavailable, Forbidden, QueuedeckError
from ..model import Value
from ..sources.source import Argument, Reply
from ..store.redis_store import PREFIX, Store
from .groups import ErrorGroup

GROUPS = f"{PREFIX}:groups"
SEEN = f"{PREFIX}:groups:seen"
MAX_KEPT = 5000
# After so long without a death a group counts as quiet: when it dies again, it came back.
QUIET_S = 3600.0
# A mark that nobody answers fades after a day.
MARK_S = 86_400.0
# One script holds up the server as long as it runs: so many groups take about a millisecond.
GROUPS_PER_CALL = 100
MAX_NAME = 60
MAX_NOTE = 1000
# What is remembered by itself, then what people say; the scripts drop exactly these.
WORDS = (
    *("first", "newest", "back"),
    *("ack_by", "ack_at", "resolved_by", "resolved_at", "ignored_by", "ignored_until", "ignored_above"),
    *("owner", "note", "note_by", "note_at"),
)

# KEYS groups, seen. ARGV now, quiet s, most kept, number of words, word..., then per group: fingerprint, newest death
# or '', earliest death of a group that was read whole or ''. Answers how many were too many.
# A group comes back with a death after a quiet time, or with deaths all later than the newest one known: those before
# were retried or deleted. Numbers are kept as they came, in decimal.
_SYNC = """
local now, quiet, most, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for n = 5 + count, #ARGV, 3 do
  local id, newest, earliest = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local known = redis.call('HMGET', KEYS[1], id .. ':first', id .. ':newest')
  if not known[1] or not tonumber(known[1]) then redis.call('HSET', KEYS[1], id .. ':first', ARGV[1]) end
  local last, latest = tonumber(known[2] or ''), tonumber(newest)
  if latest and (not last or latest > last) then
    if last and (latest - last > quiet or (tonumber(earliest) or 0) > last) then
      redis.call('HSET', KEYS[1], id .. ':back', ARGV[1])
    end
    redis.call('HSET', KEYS[1], id .. ':newest', newest)
  end
  redis.call('ZADD', KEYS[2], ARGV[1], id)
end
local over = redis.call('ZCARD', KEYS[2]) - most
for _, id in ipairs(over > 0 and redis.call('ZRANGE', KEYS[2], 0, math.min(over, 50) - 1) or {}) do
  for w = 1, count do redis.call('HDEL', KEYS[1], id .. ':' .. ARGV[4 + w]) end
  redis.call('ZREM', KEYS[2], id)
end
return math.max(over, 0)
"""

# KEYS groups, seen. ARGV fingerprint, now, then word and value; '' takes a word away. Answers 1, or 0 for a group that
# is not known (any more): only groups that were seen are written about, so that the hash stays bounded.
_SAY = """
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
for n = 3, #ARGV, 2 do
  if ARGV[n + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[1] .. ':' .. ARGV[n])
  else redis.call('HSET', KEYS[1], ARGV[1] .. ':' .. ARGV[n], ARGV[n + 1]) end
end
return 1
"""


class Annotation(Value, frozen=True, kw_only=True):
    """What is known of one group; times in seconds since 1970."""

    first_at: float | None = None  # when Queuedeck first saw it
    newest_at: float | None = None  # its latest death that was seen
    back_at: float | None = None  # when it was seen to have come back
    ack_by: str | None = None
    ack_at: float | None = None
    resolved_by: str | None = None
    resolved_at: float | None = None
    ignored_by: str | None = None
    ignored_until: float | None = None
    ignored_above: int | None = None  # ignored until there are more jobs than this
    owner: str | None = None
    note: str | None = None
    note_by: str | None = None
    note_at: float | None = None

    def marks(self, group: ErrorGroup | None, now: float) -> tuple[str, ...]:
        """Words for the page, the most urgent first: came back, new, acknowledged, ignored, resolved.

        Coming back ends an acknowledgement, and a death after it ends a resolution.
        """
        count = group.count if group else 0
        last = (group.last_at if group else None) or self.newest_at or 0.0
        found = []
        answered = max(self.ack_at or 0.0, self.resolved_at or 0.0)
        reopened = self.resolved_at is not None and last > self.resolved_at
        came_back = self.back_at is not None and self.back_at > answered and now - self.back_at < MARK_S
        if came_back or (reopened and (self.ack_at or 0.0) < last):
            found.append("came back")
        elif self.first_at is not None and now - self.first_at < MARK_S and not answered:
            found.append("new")
        if self.ack_at is not None and self.ack_at >= (self.back_at or 0.0):
            found.append("acknowledged")
        if self.is_ignored(count, now):
            found.append("ignored")
        if self.resolved_at is not None and not reopened:
            found.append("resolved")
        return tuple(found)

    def is_ignored(self, count: int, now: float) -> bool:
        """Whether somebody asked not to be told of it, and neither the time nor the count is reached."""
        if self.ignored_until is not None:
            return now < self.ignored_until
        return self.ignored_above is not None and count <= self.ignored_above


NOTHING_KNOWN = Annotation()


@dataclass(frozen=True, slots=True)
class Annotations:
    """What is known of many groups, by fingerprint; `problem` = why nothing is."""

    by_id: Mapping[str, Annotation]
    problem: str | None = None

    def of(self, fingerprint: str) -> Annotation:
        """What is known of one; an empty Remark when nothing is."""
        return self.by_id.get(fingerprint, NOTHING_KNOWN)


class AnnotationStore:
    """What one store remembers of groups, thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def now_s(self) -> float:
        """Seconds since 1970 by the clock of the store; see Store.now_s."""
        return self._store.now_s()

    def sync_groups(self, groups: Sequence[ErrorGroup]) -> Annotations:
        """Note that these groups are there, and answer what is known of them.

        Never raises: where nothing can be kept, the marks are unknown, and the answer says why. Cost: 1 round trip for
        each GROUPS_PER_CALL groups and 1 more, none for none.
        """
        now = self.now_s()
        try:
            for start in range(0, len(groups), GROUPS_PER_CALL):
                self._store.run_script(
                    _SYNC, (GROUPS, SEEN), *_sync_arguments(groups[start : start + GROUPS_PER_CALL], now)
                )
            ids = [group.kind.id for group in groups]
            replies = self._store.read_keys(*(("HMGET", GROUPS, *(f"{id_}:{word}" for word in WORDS)) for id_ in ids))
        except QueuedeckError as exc:
            return Annotations({}, _explain_error(exc))
        return Annotations({id_: _decode_annotation(reply) for id_, reply in zip(ids, replies, strict=True)})

    def read_annotation(self, fingerprint: str) -> Annotation:
        """What is known of one group. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        return _decode_annotation(
            self._store.read_keys(("HMGET", GROUPS, *(f"{fingerprint}:{word}" for word in WORDS)))[0]
        )

    def update_annotation(self, fingerprint: str, words: Mapping[str, str | float | None]) -> bool:
        """Keep what a person says, each word of WORDS; None takes it away. False: the group is not known (any more).

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip.
        """
        pairs: list[Argument] = []
        for word, value in words.items():
            assert word in WORDS
            pairs += [word, "" if value is None else _plain_text(value)]
        return bool(self._store.run_script(_SAY, (GROUPS, SEEN), fingerprint, _plain_text(self.now_s()), *pairs))


def acknowledgement_fields(by: str, at: float) -> dict[str, str | float | None]:
    """What `update_annotation` is given when somebody has seen a group."""
    return {"ack_by": by, "ack_at": at}


def _sync_arguments(groups: Iterable[ErrorGroup], now: float) -> Iterable[Argument]:
    yield from (_plain_text(now), QUIET_S, MAX_KEPT, len(WORDS), *WORDS)
    for group in groups:
        # Where a list was not read to its end, its older jobs may still be there: then only a quiet time tells.
        earliest = group.first_at if group.whole else None
        yield from (group.kind.id, _plain_text(group.last_at), _plain_text(earliest))


def _plain_text(value: str | float | None) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def _decode_annotation(reply: Reply) -> Annotation:
    values = dict(zip(WORDS, reply if isinstance(reply, list) else (), strict=False))

    def number(word: str) -> float | None:
        raw = values.get(word)
        try:
            value = float(raw) if isinstance(raw, bytes) and len(raw) < 40 else math.nan
        except ValueError:
            return None
        return value if math.isfinite(value) and 0 <= value < 1e11 else None

    def text(word: str, limit: int = MAX_NAME) -> str | None:
        raw = values.get(word)
        return raw[: limit * 4].decode("utf-8", "replace")[:limit] or None if isinstance(raw, bytes) else None

    above = number("ignored_above")
    return Annotation(
        first_at=number("first"),
        newest_at=number("newest"),
        back_at=number("back"),
        ack_by=text("ack_by"),
        ack_at=number("ack_at"),
        resolved_by=text("resolved_by"),
        resolved_at=number("resolved_at"),
        ignored_by=text("ignored_by"),
        ignored_until=number("ignored_until"),
        ignored_above=int(above) if above is not None else None,
        owner=text("owner"),
        note=text("note", MAX_NOTE),
        note_by=text("note_by"),
        note_at=number("note_at"),
    )


def _explain_error(exc: QueuedeckError) -> str:
    refused = isinstance(exc, Forbidden) or isinstance(exc.__cause__, NoPermissionError)
    script_refused = isinstance(exc, BackendUnavailable) and "permission" in str(exc.__cause__ or "").lower()
    if refused or script_refused or "can't run this command" in str(exc.__cause__ or ""):
        return "The Redis user may not write to Queuedeck's own keys, so it is unknown which groups are new."
    return f"{exc.message.rstrip('.')}, so it is unknown which groups are new."
