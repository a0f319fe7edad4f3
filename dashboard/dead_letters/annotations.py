"""History and annotations of error groups, persisted in the store and shared by all processes.

`{queuedeck}:groups` is one hash with a field `<fingerprint>:<name>` for each known value. `{queuedeck}:groups:seen` is
a sorted set of fingerprints by the time when they were last seen, which bounds the hash: beyond MAX_KEPT groups, the
least recently seen are dropped. Values that Queuedeck did not write count as missing.
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
# After this long without a death, a group counts as quiet: its next death is a regression.
QUIET_S = 3600.0
# `new` and `regressed` without a reaction disappear after a day.
STATUS_S = 86_400.0
# A script blocks the server while it runs: this many groups take about a millisecond.
GROUPS_PER_CALL = 100
# What users wrote about a group; the other values decide about its status, and with it about alerts.
TEXTS = frozenset({"owner", "note", "note_by", "note_at"})
MAX_NAME = 60
MAX_NOTE = 1000
# Values recorded automatically, then those set by users; the scripts drop exactly these.
FIELDS = (
    *("first", "newest", "back"),
    *("ack_by", "ack_at", "resolved_by", "resolved_at", "ignored_by", "ignored_until", "ignored_above"),
    *("owner", "note", "note_by", "note_at"),
)

# KEYS: groups, seen. ARGV: now, quiet s, maximum of groups, number of fields, field..., then per group: fingerprint,
# newest death or '', earliest death of a completely read group or ''. Returns how many groups exceeded the maximum.
# A group regresses with a death after a quiet time, with the first death after it was resolved, or if all its deaths
# are later than the newest known one: the earlier ones were retried or deleted. Numbers are stored as received, in
# decimal.
_SYNC = """
local now, quiet, most, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for n = 5 + count, #ARGV, 3 do
  local id, newest, earliest = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local known = redis.call('HMGET', KEYS[1], id .. ':first', id .. ':newest', id .. ':resolved_at')
  if not known[1] or not tonumber(known[1]) then redis.call('HSET', KEYS[1], id .. ':first', ARGV[1]) end
  local last, latest, resolved = tonumber(known[2] or ''), tonumber(newest), tonumber(known[3] or '')
  if latest and (not last or latest > last) then
    local reopened = resolved and last and latest > resolved and last <= resolved
    if last and (latest - last > quiet or (tonumber(earliest) or 0) > last or reopened) then
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

# KEYS: groups, seen. ARGV: fingerprint, now, then field and value; '' removes a field. Returns 1, or 0 for a group that
# is not or no longer known: only groups that were seen are annotated, so that the hash stays bounded.
_UPDATE = """
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
for n = 3, #ARGV, 2 do
  if ARGV[n + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[1] .. ':' .. ARGV[n])
  else redis.call('HSET', KEYS[1], ARGV[1] .. ':' .. ARGV[n], ARGV[n + 1]) end
end
return 1
"""


class Annotation(Value, frozen=True, kw_only=True):
    """History and annotation of one group; times in seconds since 1970."""

    first_at: float | None = None  # when Queuedeck first saw it
    newest_at: float | None = None  # its latest known death
    back_at: float | None = None  # when it last regressed
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

    def statuses(self, group: ErrorGroup | None, now: float) -> tuple[str, ...]:
        """Status labels, most urgent first: regressed, new, acknowledged, ignored, resolved.

        A regression ends an acknowledgement, and a death after a resolution ends it.
        """
        count = group.count if group else 0
        found = []
        since = self.regressed_since(group)
        reopened = self._is_reopened(group)
        acknowledged = self.ack_at is not None and self.ack_at >= (since or 0.0)
        if since is not None and not acknowledged and (reopened or now - since < STATUS_S):
            found.append("regressed")
        elif self.first_at is not None and now - self.first_at < STATUS_S and not (self.ack_at or self.resolved_at):
            found.append("new")
        if acknowledged:
            found.append("acknowledged")
        if self.is_ignored(count, now):
            found.append("ignored")
        if self.resolved_at is not None and not reopened:
            found.append("resolved")
        return tuple(found)

    def regressed_since(self, group: ErrorGroup | None) -> float | None:
        """When the group last regressed; None if it never did, or was resolved since.

        After a resolution this is its first known death since then, otherwise when Queuedeck noticed it.
        """
        resolved = self.resolved_at or 0.0
        noticed = self.back_at if self.back_at is not None and self.back_at > resolved else None
        if not self._is_reopened(group):
            return noticed
        deaths = [each.dead_letter.at for each in group.members if each.dead_letter.at] if group else []
        first = min((at for at in deaths if at > resolved), default=self._last_at(group))
        # What died before an acknowledgement belongs to the regression that was acknowledged.
        return first if noticed is None else min(noticed, first) if first > (self.ack_at or 0.0) else noticed

    def _is_reopened(self, group: ErrorGroup | None) -> bool:
        return self.resolved_at is not None and self._last_at(group) > self.resolved_at

    def _last_at(self, group: ErrorGroup | None) -> float:
        return (group.last_at if group else None) or self.newest_at or 0.0

    def is_ignored(self, count: int, now: float) -> bool:
        """Whether the group is ignored, and neither the time nor the count that ends this has been reached."""
        if self.ignored_until is not None:
            return now < self.ignored_until
        return self.ignored_above is not None and count <= self.ignored_above


NOTHING_KNOWN = Annotation()


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotations of many groups, by fingerprint; `problem` = why they are unknown."""

    by_fingerprint: Mapping[str, Annotation]
    problem: str | None = None

    def of(self, fingerprint: str) -> Annotation:
        """The annotation of one group; an empty one if nothing is known."""
        return self.by_fingerprint.get(fingerprint, NOTHING_KNOWN)


class AnnotationStore:
    """Stores the annotations of groups. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def now_s(self) -> float:
        """Seconds since 1970 by the clock of the store; see Store.now_s."""
        return self._store.now_s()

    def sync_groups(self, groups: Sequence[ErrorGroup]) -> Annotations:
        """Record that these groups exist, and return their annotations.

        Never raises: if nothing can be stored, the annotations are unknown and `problem` says why. Cost: 1 round trip
        for each GROUPS_PER_CALL groups and 1 more; none without groups.
        """
        now = self.now_s()
        try:
            for start in range(0, len(groups), GROUPS_PER_CALL):
                self._store.run_script(
                    _SYNC, (GROUPS, SEEN), *_sync_arguments(groups[start : start + GROUPS_PER_CALL], now)
                )
            fingerprints = [group.error.fingerprint for group in groups]
            replies = self._store.read_keys(*(_read_command(fingerprint) for fingerprint in fingerprints))
        except QueuedeckError as exc:
            return Annotations({}, _explain_error(exc))
        pairs = zip(fingerprints, replies, strict=True)
        return Annotations({fingerprint: _decode_annotation(reply) for fingerprint, reply in pairs})

    def read_annotation(self, fingerprint: str) -> Annotation:
        """The annotation of one group. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        return _decode_annotation(self._store.read_keys(_read_command(fingerprint))[0])

    def update_annotation(self, fingerprint: str, fields: Mapping[str, str | float | None]) -> bool:
        """Set values by their names in FIELDS; None removes one. False if the group is not or no longer known.

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip.
        """
        pairs: list[Argument] = []
        for field, value in fields.items():
            assert field in FIELDS
            pairs += [field, "" if value is None else _plain_text(value)]
        return bool(self._store.run_script(_UPDATE, (GROUPS, SEEN), fingerprint, _plain_text(self.now_s()), *pairs))


def _read_command(fingerprint: str) -> tuple[str, ...]:
    return ("HMGET", GROUPS, *(f"{fingerprint}:{field}" for field in FIELDS))


def _sync_arguments(groups: Iterable[ErrorGroup], now: float) -> Iterable[Argument]:
    yield from (_plain_text(now), QUIET_S, MAX_KEPT, len(FIELDS), *FIELDS)
    for group in groups:
        # If a list was not read completely, older jobs may still exist: then only a quiet time shows a regression.
        earliest = group.first_at if group.whole else None
        yield from (group.error.fingerprint, _plain_text(group.last_at), _plain_text(earliest))


def _plain_text(value: str | float | None) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def _decode_annotation(reply: Reply) -> Annotation:
    values = dict(zip(FIELDS, reply if isinstance(reply, list) else (), strict=False))

    def number(field: str) -> float | None:
        raw = values.get(field)
        try:
            value = float(raw) if isinstance(raw, bytes) and len(raw) < 40 else math.nan
        except ValueError:
            return None
        return value if math.isfinite(value) and 0 <= value < 1e11 else None

    def text(field: str, limit: int = MAX_NAME) -> str | None:
        raw = values.get(field)
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
        return "The Redis user is not allowed to write Queuedeck's own keys, so it is unknown which groups are new."
    return f"{exc.message.rstrip('.')}, so it is unknown which groups are new."
