"""Lists what the trash holds: its batches, newest first and filtered, the jobs of one batch. Only reads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from ..clock import now_s
from ..errors import Unsupported
from ..model import Value
from ..sources.source import Reply
from ..store.packing import unpack
from ..store.redis_store import Store
from .trash import BIN, KEEP_S, MAX_BATCHES, SIZES, SPARE_BATCHES, DeletedBatch, batch_key, parse_size

# About how many jobs of a batch one page shows. Redis returns whole buckets, so a page can have a few more.
JOBS_PER_PAGE = 50
MAX_CURSOR = 20
# The end of the entry of a schedule.
_KIND = msgspec.msgpack.encode("schedule")

# KEYS batch. ARGV cursor, count. Returns {next cursor, {id, bytes of the entry, what follows its blob}...}: the blobs
# stay in Redis. An entry is a MessagePack array of 4 or 5: version, blob, size, name, kind; see `encode_backup`.
_JOBS = """
local function skip(value, at)
  local kind = string.byte(value, at)
  if kind == 0xc0 then return at + 1 end
  local wide = ({[0xc4] = 1, [0xc5] = 2, [0xc6] = 4})[kind]
  if not wide then return nil end
  local length = 0
  for n = at + 1, at + wide do length = length * 256 + (string.byte(value, n) or 0) end
  return at + 1 + wide + length
end
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local rows = {}
for n = 1, #found[2], 2 do
  local id, value = found[2][n], found[2][n + 1]
  if id ~= '' then
    local after = skip(value, 2)
    after = after and skip(value, after)
    rows[#rows + 1] = {id, #value, after and string.sub(value, after, after + 2000) or ''}
  end
end
return {found[1], rows}
"""


class TrashedBatch(Value, frozen=True, kw_only=True):
    """One delete: its origin, how many of its jobs are left, their bytes (None if unknown), and when it expires."""

    name: str
    about: DeletedBatch
    left: int
    size_bytes: int | None
    until: float  # seconds since 1970

    @property
    def bulk_id(self) -> str | None:
        """The bulk operation that deleted the jobs; None for another delete."""
        return bulk_id_of(self.name)


def bulk_id_of(undo_batch: str) -> str | None:
    """The bulk operation that deleted the jobs of an undo batch, from its name; None for another delete."""
    bulk_id, between, _ = undo_batch.rpartition("x")
    return bulk_id if between else None


class TrashedJob(Value, frozen=True, kw_only=True):
    """One deleted job or removed schedule; `name` None: not recorded."""

    id: str
    name: str | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TrashFilter:
    """Which batches to list; None = any. `queue` and `who` are whole names, `bulk_id` that of a bulk operation."""

    source: str | None = None
    backend: str | None = None
    queue: str | None = None
    who: str | None = None
    bulk_id: str | None = None

    def matches(self, batch: TrashedBatch) -> bool:
        """Whether the batch is listed."""
        ref = batch.about.ref
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.source, ref.source),
                (self.backend, ref.backend),
                (self.queue, ref.name),
                (self.who, batch.about.who),
                (self.bulk_id, batch.bulk_id),
            )
        )

    @property
    def narrows(self) -> bool:
        """Whether it excludes anything."""
        return any((self.source, self.backend, self.queue is not None, self.who, self.bulk_id))


@dataclass(frozen=True, slots=True)
class TrashPage:
    """A page of batches, and figures of the whole trash. `matching_jobs` and `matching` are of all pages of the filter.

    `following` and `following_jobs` are those after the cursor, on this page and later ones. `queues` and `people` are
    the values that a filter can have, sorted.
    """

    batches: tuple[TrashedBatch, ...]
    matching: int
    matching_jobs: int
    following: int
    following_jobs: int
    total: int
    total_jobs: int
    used_bytes: int
    limit_bytes: int
    next_cursor: str | None
    queues: tuple[str, ...]
    people: tuple[str, ...]


class TrashListing:
    """Lists the trash of one store, thread-safe. All methods raise BackendUnavailable."""

    def __init__(self, store: Store, cap_bytes: int, sees: Callable[[DeletedBatch], bool] | None = None) -> None:
        """`sees`: whether a batch is listed; None: all are."""
        self._store = store
        self._cap_bytes = cap_bytes
        self._sees = sees
        # The origin of a batch changes only together with its expiry.
        self._origins: dict[tuple[str, float], DeletedBatch] = {}

    def restricted_to(self, sees: Callable[[DeletedBatch], bool]) -> TrashListing:
        """The same trash, without the batches that `sees` excludes."""
        return TrashListing(self._store, self._cap_bytes, sees)

    def list_page(self, wanted: TrashFilter, *, cursor: str | None, limit: int) -> TrashPage:
        """At most `limit` batches after `cursor`, newest first. Raises Unsupported for an invalid cursor.

        Cost: 2 round trips, with one small read for each of at most MAX_BATCHES, and one more for each batch that this
        process has not seen yet.
        """
        after = None if cursor is None else _parse_cursor(cursor)
        everything = self._read_batches()
        matching = [batch for batch in everything if wanted.matches(batch)]
        following = [batch for batch in matching if after is None or _order_of(batch) < after]
        shown = following[:limit]
        return TrashPage(
            batches=tuple(shown),
            matching=len(matching),
            matching_jobs=sum(batch.left for batch in matching),
            following=len(following),
            following_jobs=sum(batch.left for batch in following),
            total=len(everything),
            total_jobs=sum(batch.left for batch in everything),
            used_bytes=sum(batch.size_bytes or 0 for batch in everything),
            limit_bytes=self._cap_bytes,
            next_cursor=cursor_of(shown[-1]) if len(following) > limit else None,
            queues=tuple(sorted({batch.about.ref.name for batch in everything if batch.about.ref.name})),
            people=tuple(sorted({batch.about.who for batch in everything})),
        )

    def count_jobs(self, wanted: TrashFilter) -> int:
        """The number of deleted jobs that match, without schedules. Cost: as `list_page`; 1 round trip if empty."""
        return sum(
            batch.left for batch in self._read_batches() if batch.about.schedule is None and wanted.matches(batch)
        )

    def count_left_by_operation(self, bulk_ids: Collection[str]) -> dict[str, int]:
        """The number of deleted jobs left of each bulk operation, without those that hold none.

        Cost: 2 round trips, none without bulk operations.
        """
        if not bulk_ids:
            return {}
        (names,) = self._store.read_keys(("ZREVRANGE", BIN, 0, MAX_BATCHES + SPARE_BATCHES - 1))
        own = [name for raw in names or () if bulk_id_of(name := raw.decode("ascii", "replace")) in bulk_ids]
        counts = self._store.read_keys(*(("HLEN", batch_key(name)) for name in own))
        left: dict[str, int] = {}
        for name, count in zip(own, counts, strict=True):
            bulk_id = bulk_id_of(name)
            if bulk_id is not None and isinstance(count, int) and count > 1:
                left[bulk_id] = left.get(bulk_id, 0) + count - 1
        return left

    def read_batch(self, name: str) -> TrashedBatch | None:
        """One batch; None if it expired or everything in it was restored. Cost: 1 round trip."""
        meta, count, size, until = self._store.read_keys(
            ("HGET", batch_key(name), ""), ("HLEN", batch_key(name)), ("HGET", SIZES, name), ("ZSCORE", BIN, name)
        )
        about = unpack(meta, DeletedBatch)
        if about is None or not isinstance(count, int) or count < 2 or not self._shows(about):
            return None
        return TrashedBatch(
            name=name,
            about=about,
            left=count - 1,
            size_bytes=parse_size(size) if size else None,
            until=_parse_time(until) or about.at + KEEP_S,
        )

    def list_jobs(self, name: str, cursor: int) -> tuple[list[TrashedJob], int]:
        """About JOBS_PER_PAGE jobs of a batch, and the next cursor, 0 at the end. Their payloads stay in Redis.

        A job can be on two pages if others were restored in between; none is left out. Cost: 1 round trip.
        """
        if self._sees is not None and self.read_batch(name) is None:
            return [], 0
        following, rows = self._store.run_script(_JOBS, (batch_key(name),), cursor, JOBS_PER_PAGE) or (b"0", ())
        jobs = [_decode_job(*row) for row in rows]
        return sorted(jobs, key=lambda job: (len(job.id), job.id)), int(following)

    def _shows(self, about: DeletedBatch) -> bool:
        return self._sees is None or self._sees(about)

    def _read_batches(self) -> list[TrashedBatch]:
        """All batches that hold something, newest first."""
        (flat,) = self._store.read_keys(("ZREVRANGE", BIN, 0, MAX_BATCHES + SPARE_BATCHES - 1, "WITHSCORES"))
        now, flat = now_s(), flat or []
        expiry = {
            raw.decode("ascii", "replace"): until
            for raw, score in zip(flat[::2], flat[1::2], strict=True)
            if (until := _parse_time(score)) is not None and until > now
        }
        if not expiry:
            return []
        names = list(expiry)
        known = self._origins
        unknown = [name for name in names if (name, expiry[name]) not in known]
        sizes, *replies = self._store.read_keys(
            ("HMGET", SIZES, *names),
            *(("HLEN", batch_key(name)) for name in names),
            *(("HGET", batch_key(name), "") for name in unknown),
        )
        metas = dict(zip(unknown, replies[len(names) :], strict=True))
        sizes = sizes or [None] * len(names)
        found: list[TrashedBatch] = []
        for name, size, count in zip(names, sizes, replies[: len(names)], strict=True):
            about = known.get((name, expiry[name])) or unpack(metas.get(name), DeletedBatch)
            if about is not None and isinstance(count, int) and count > 1 and self._shows(about):
                held = parse_size(size) if size else None
                found.append(TrashedBatch(name=name, about=about, left=count - 1, size_bytes=held, until=expiry[name]))
        self._origins = {(batch.name, batch.until): batch.about for batch in found}
        return sorted(found, key=_order_of, reverse=True)


def _order_of(batch: TrashedBatch) -> tuple[int, int, str]:
    """Expiry times are whole seconds; several batches can have the same."""
    return int(batch.until), int(batch.about.at * 1000), batch.name


def cursor_of(batch: TrashedBatch) -> str:
    """The cursor of the page that begins after this batch; valid also when the batch is no longer there."""
    return "-".join(str(part) for part in _order_of(batch))


def _parse_cursor(text: str) -> tuple[int, int, str]:
    until, _, rest = text.partition("-")
    at_ms, _, name = rest.partition("-")
    numbers = [int(part) for part in (until, at_ms) if part.isascii() and part.isdigit() and len(part) <= MAX_CURSOR]
    if len(numbers) != 2 or not name.isalnum():
        raise Unsupported("cursor: expected the next_cursor of an earlier page.")
    return numbers[0], numbers[1], name


def _parse_time(raw: Reply) -> float | None:
    try:
        found = float(raw)
    except (TypeError, ValueError):
        return None
    return found if 0 < found < 1e12 else None


def _decode_job(raw_id: bytes, size: int, rest: bytes) -> TrashedJob:
    """`rest`: the last elements of the entry, beginning with the size of the job."""
    name: str | None = None
    try:
        _, raw, *_ = msgspec.msgpack.decode(_array_of(rest))
        name = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else None
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
        name = None
    return TrashedJob(id=raw_id.decode("utf-8", "surrogateescape"), name=name, size_bytes=size)


def _array_of(rest: bytes) -> bytes:
    """Two or three elements as one array: an entry of a schedule has its kind at the end."""
    return (b"\x93" if rest.endswith(_KIND) else b"\x92") + rest
