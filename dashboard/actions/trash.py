"""The trash: deleted jobs and removed schedules, stored for a day with everything needed to restore them.

Up to a cap in bytes. An undo batch holds the jobs of one delete, or one schedule. An entry is written before its job is
deleted and removed if the delete did not happen, so that a process killed in between leaves an extra entry, never a
missing one; `Backend.restore_jobs` refuses an entry whose job still exists.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ..backends.actions import JobBackup
from ..clock import now_s
from ..errors import Conflict, NotFound
from ..model import QueueRef, State, Value
from ..sources.source import Reply
from ..store.packing import pack, unpack
from ..store.redis_store import PREFIX, Store

# Sorted set: undo batch -> when it expires, seconds since 1970; at most MAX_BATCHES, and SPARE_BATCHES of schedules.
BIN = f"{PREFIX}:bin"
SIZES = f"{PREFIX}:bin:sizes"  # hash: undo batch -> its bytes
KEEP_S = 86_400
MAX_BATCHES = 2_000
# What schedules may use beyond the limits.
SPARE_BYTES, SPARE_BATCHES = 2 * 1024 * 1024, 200
PAGE = 500
# The most that one script stores, which takes a millisecond or two.
PUT_BYTES = 1024 * 1024
# An undo of more is a bulk operation: it could take longer than the timeouts of clients and proxies.
AT_ONCE_JOBS, AT_ONCE_BYTES = 1_000, 16 * 1024 * 1024
# The memory of an entry in Redis besides its blob; the scripts contain the same number.
ENTRY_BYTES = 96

# KEYS bin, sizes, batch. ARGV now, lifetime, cap, batch, meta, maximum of batches, bytes, then field and value of each
# entry. Returns 1, or 0 if the entries do not fit. Expired batches are removed first, 100 at a time.
_PUT = """
local now = tonumber(ARGV[1])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[1], old)
  redis.call('HDEL', KEYS[2], old)
end
if redis.call('HLEN', KEYS[2]) > redis.call('ZCARD', KEYS[1]) then  -- all or part of the set of batches was lost
  for _, batch in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not redis.call('ZSCORE', KEYS[1], batch) then
      local left = redis.call('TTL', sound(KEYS[1] .. ':' .. batch, 'h'))
      if left > 0 then redis.call('ZADD', KEYS[1], now + left, batch) else redis.call('HDEL', KEYS[2], batch) end
    end
  end
end
local used = 0
for _, size in ipairs(redis.call('HVALS', KEYS[2])) do
  if string.match(size, '^%d+$') and #size <= 15 then used = used + tonumber(size) end
end
local known = redis.call('ZSCORE', KEYS[1], ARGV[4])
if used + tonumber(ARGV[7]) > tonumber(ARGV[3]) then return 0 end
if not known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[6]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[4])
redis.call('HSET', KEYS[3], '', ARGV[5])
local added = 0
for n = 8, #ARGV, 2 do
  if redis.call('HSET', KEYS[3], ARGV[n], ARGV[n + 1]) == 1 then added = added + #ARGV[n] + #ARGV[n + 1] + 96 end
end
add(KEYS[2], ARGV[4], added)
redis.call('EXPIRE', KEYS[3], ARGV[2])
return 1
"""

# KEYS bin, sizes, batch. ARGV batch, then the field of each entry. Returns the number of entries left.
_DROP = """
for n = 2, #ARGV do
  local size = redis.call('HSTRLEN', KEYS[3], ARGV[n])
  if redis.call('HDEL', KEYS[3], ARGV[n]) == 1 then
    add(KEYS[2], ARGV[1], -(size + #ARGV[n] + 96))
  end
end
local left = redis.call('HLEN', KEYS[3]) - 1
if left <= 0 then
  redis.call('DEL', KEYS[3])
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return math.max(left, 0)
"""


class DeletedBatch(Value, frozen=True, kw_only=True):
    """The origin of an undo batch; `state` None: its jobs were in no list, or it is a removed schedule.

    The name of `ref` is "" for a schedule that names no queue.
    """

    ref: QueueRef
    state: State | None
    who: str
    at: float
    server: str = ""  # the address of its source at that time; "" if unknown
    schedule: str | None = None  # the name of the removed schedule; None for deleted jobs

    @property
    def place(self) -> State:
        """The state to pass to a backend for a restore; for jobs in no list, the backend reads it from each entry."""
        return self.state or State.ACTIVE


class Trash:
    """The trash of one store, thread-safe."""

    def __init__(self, store: Store, cap_bytes: int, sees: Callable[[DeletedBatch], bool] | None = None) -> None:
        """`sees`: whether a batch is found; None: all are."""
        self._store = store
        self._cap_bytes = cap_bytes
        self._sees = sees

    def restricted_to(self, sees: Callable[[DeletedBatch], bool]) -> Trash:
        """The same trash, in which the batches that `sees` excludes are not found."""
        return Trash(self._store, self._cap_bytes, sees)

    def room_bytes(self) -> int:
        """The bytes that are still free. Raises BackendUnavailable. Cost: 1 round trip."""
        now = int(now_s())
        sizes, old = self._store.read_keys(("HGETALL", SIZES), ("ZRANGEBYSCORE", BIN, "-inf", now))
        sizes, gone = sizes or [], set(old or ())
        used = sum(
            parse_size(size) for undo_batch, size in zip(sizes[::2], sizes[1::2], strict=True) if undo_batch not in gone
        )
        return max(0, self._cap_bytes - used)

    def store_batch(self, undo_batch: str, about: DeletedBatch, backups: Iterable[JobBackup]) -> bool:
        """Store jobs in an undo batch; False if they do not fit, then none is stored. Cost: 1 round trip per 1 MiB."""
        portion: list[JobBackup] = []
        before: list[JobBackup] = []
        size = 0
        for job in backups:
            if job.blob is None:
                continue
            if portion and size + len(job.blob) > PUT_BYTES:
                if not self._store_batch(undo_batch, about, portion):
                    self.drop_jobs(undo_batch, before)
                    return False
                before += portion
                portion, size = [], 0
            portion.append(job)
            size += len(job.blob)
        if portion and not self._store_batch(undo_batch, about, portion):
            self.drop_jobs(undo_batch, before)
            return False
        return True

    def store_schedule(self, undo_batch: str, about: DeletedBatch, backup: JobBackup) -> bool:
        """Store a schedule; False if it does not fit. A full trash has room for some: they must not keep running.

        Cost: 1 round trip.
        """
        return self._store_batch(undo_batch, about, [backup], spare_bytes=SPARE_BYTES, spare_batches=SPARE_BATCHES)

    def _store_batch(
        self,
        undo_batch: str,
        about: DeletedBatch,
        backups: Iterable[JobBackup],
        *,
        spare_bytes: int = 0,
        spare_batches: int = 0,
    ) -> bool:
        arguments: list[str | bytes] = []
        size = 0
        for job in backups:
            value = msgspec.msgpack.encode(encode_backup(job))
            arguments += [_field_of(job.id), value]
            size += len(value) + len(job.id) + ENTRY_BYTES
        most = (self._cap_bytes + spare_bytes, undo_batch, pack(about), MAX_BATCHES + spare_batches)
        head = (int(now_s()), KEEP_S, *most, size)
        return bool(self._store.run_script(_PUT, (BIN, SIZES, batch_key(undo_batch)), *head, *arguments))

    def drop_jobs(self, undo_batch: str, backups: Iterable[JobBackup]) -> None:
        """Drop jobs that were not deleted or are restored. Cost: 1 round trip, none without jobs."""
        fields = [_field_of(job.id) for job in backups if job.blob is not None]
        if fields:
            self._store.run_script(_DROP, (BIN, SIZES, batch_key(undo_batch)), undo_batch, *fields)

    def held_ids(self, undo_batch: str, ids: Sequence[str]) -> set[str]:
        """The subset of `ids` that the undo batch holds. Cost: 1 round trip."""
        if not ids:
            return set()
        replies = self._store.read_keys(*(("HEXISTS", batch_key(undo_batch), _field_of(each)) for each in ids))
        return {each for each, reply in zip(ids, replies, strict=True) if reply == 1}

    def describe_batches(self, undo_batches: Sequence[str]) -> dict[str, DeletedBatch]:
        """The origin of each undo batch, without those that no longer exist. Cost: 1 round trip."""
        metas = self._store.read_keys(*(("HGET", batch_key(undo_batch), "") for undo_batch in undo_batches))
        return {
            undo_batch: about
            for undo_batch, meta in zip(undo_batches, metas, strict=True)
            if (about := self._origin_of(meta)) is not None
        }

    def describe_batch(self, undo_batch: str) -> tuple[DeletedBatch, int]:
        """(the origin of an undo batch, the number of jobs left in it). Raises NotFound. Cost: 1 round trip."""
        meta, size = self._store.read_keys(("HGET", batch_key(undo_batch), ""), ("HLEN", batch_key(undo_batch)))
        about = self._origin_of(meta)
        if about is None or not isinstance(size, int):
            raise nothing_left()
        return about, size - 1

    def list_batches(self, count: int) -> list[tuple[str, DeletedBatch, int, float]]:
        """(undo batch, its origin, the number of jobs left, when it expires), the latest delete first.

        At most `count`. Raises BackendUnavailable. Cost: 2 round trips.
        """
        (flat,) = self._store.read_keys(("ZREVRANGE", BIN, 0, count - 1, "WITHSCORES"))
        flat = flat or []
        names = [raw.decode("ascii", "replace") for raw in flat[::2]]
        replies = self._store.read_keys(
            *(each for name in names for each in (("HGET", batch_key(name), ""), ("HLEN", batch_key(name))))
        )
        found = []
        for name, until, meta, size in zip(names, flat[1::2], replies[::2], replies[1::2], strict=True):
            about = self._origin_of(meta)
            if about is not None and isinstance(size, int) and size > 1:
                found.append((name, about, size - 1, float(until)))
        # Expiry times are whole seconds; several undo batches can have the same.
        return sorted(found, key=lambda each: (each[3], each[1].at), reverse=True)

    def _origin_of(self, meta: Reply) -> DeletedBatch | None:
        """The origin of a batch, from its record; None without one, and if the batch may not be seen."""
        about = unpack(meta, DeletedBatch)
        return about if about is not None and (self._sees is None or self._sees(about)) else None

    def count_left(self, undo_batches: Sequence[str]) -> dict[str, int]:
        """The number of jobs left in each undo batch, without those that no longer exist. Cost: 1 round trip, 2 for
        someone who may see only some queues."""
        if self._sees is not None:
            undo_batches = list(self.describe_batches(undo_batches))
        sizes = self._store.read_keys(*(("HLEN", batch_key(undo_batch)) for undo_batch in undo_batches))
        return {
            undo_batch: size - 1
            for undo_batch, size in zip(undo_batches, sizes, strict=True)
            if isinstance(size, int) and size > 1
        }

    def is_small(self, undo_batches: Sequence[str]) -> bool:
        """Whether the jobs left in the undo batches can be restored within one request. Cost: 1 round trip."""
        counts_of, sizes_of = (
            [("HLEN", batch_key(undo_batch)) for undo_batch in undo_batches],
            [("HGET", SIZES, undo_batch) for undo_batch in undo_batches],
        )
        replies = self._store.read_keys(*counts_of, *sizes_of)
        counts, sizes = replies[: len(undo_batches)], replies[len(undo_batches) :]
        jobs = sum(count - 1 for count in counts if isinstance(count, int) and count)
        return jobs <= AT_ONCE_JOBS and sum(parse_size(size) for size in sizes) <= AT_ONCE_BYTES

    def read_backups(self, undo_batch: str, ids: Sequence[str]) -> Iterator[list[JobBackup | str]]:
        """Jobs of an undo batch, only the id of a job that it does not hold; in order, in portions of PUT_BYTES.

        Cost: 1 round trip, and 1 per portion.
        """
        sizes = self._store.read_keys(*(("HSTRLEN", batch_key(undo_batch), _field_of(each)) for each in ids))
        portion: list[str] = []
        size = 0
        for job_id, length in zip(ids, sizes, strict=True):
            more = length if isinstance(length, int) else 0
            if portion and size + more > PUT_BYTES:
                yield self._read_backups(undo_batch, portion)
                portion, size = [], 0
            portion.append(job_id)
            size += more
        if portion:
            yield self._read_backups(undo_batch, portion)

    def _read_backups(self, undo_batch: str, ids: Sequence[str]) -> list[JobBackup | str]:
        (values,) = self._store.read_keys(("HMGET", batch_key(undo_batch), *(_field_of(each) for each in ids)))
        found: list[JobBackup | str] = []
        for job_id, value in zip(ids, values or [None] * len(ids), strict=True):
            backup = None if value is None else _decode_backup(_field_of(job_id), value)
            found.append(backup or job_id)
        return found

    def read_page(self, undo_batch: str, cursor: int) -> tuple[list[JobBackup], int]:
        """A page of the jobs of an undo batch, and the next cursor, 0 at the end. Cost: 1 round trip."""
        (reply,) = self._store.read_keys(("HSCAN", batch_key(undo_batch), cursor, "COUNT", PAGE))
        following, flat = reply or (0, [])
        kept = []
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            if field:
                kept.append(_decode_backup(field, value))
        return [job for job in kept if job], int(following)


def nothing_left() -> NotFound:
    """The error for an undo batch that expired or was restored."""
    return NotFound(
        "There is nothing left to restore.",
        hint="Deleted jobs can be restored once, within 24 hours.",
    )


def new_undo_batch() -> str:
    """A unique name for an undo batch."""
    return secrets.token_hex(8)


def check_undo_batch(text: str) -> str:
    """Return `text` if it can be the name of an undo batch. Raises Conflict."""
    if not is_undo_batch(text):
        raise Conflict("Invalid batch of deleted jobs.")
    return text


def is_undo_batch(text: str) -> bool:
    """Whether `text` has the form of an undo batch name."""
    return 1 <= len(text) <= 40 and text.isalnum()


def batch_key(undo_batch: str) -> str:
    """The key of an undo batch: a hash, job id -> entry, "" -> its origin."""
    return f"{BIN}:{undo_batch}"


def _field_of(job_id: str) -> bytes:
    return job_id.encode("utf-8", "surrogateescape")


def encode_backup(job: JobBackup) -> list[Any]:
    """The elements of an entry; those of jobs have no kind."""
    kind = ["schedule"] if job.is_schedule else []
    return [_to_bytes(job.version), job.blob, job.size_bytes, _to_bytes(job.name), *kind]


def _decode_backup(field: bytes, value: bytes) -> JobBackup | None:
    try:
        version, blob, size, name, *kind = msgspec.msgpack.decode(value)
        if not isinstance(blob, bytes):
            return None
        return JobBackup(
            id=field.decode("utf-8", "surrogateescape"),
            version=_to_text(version),
            blob=blob,
            size_bytes=int(size),
            name=_to_text(name),
            is_schedule=kind == ["schedule"],
        )
    except (msgspec.DecodeError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def parse_size(raw: Any) -> int:
    """A stored size in bytes; 0 for anything that is not a number."""
    return int(raw) if isinstance(raw, bytes) and raw.isdigit() and len(raw) <= 15 else 0


def _to_bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def _to_text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "surrogateescape")
