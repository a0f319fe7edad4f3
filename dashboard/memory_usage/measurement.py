"""Measures the memory of the queues of one Redis: their keys, a sample of their jobs, a sample of the key space.

Everything is read, in small batches and within a budget; keys are found by name, or by a few steps of SCAN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from redis.exceptions import NoPermissionError

from ..backends.base import Backend
from ..backends.lua_reads import Scripts
from ..clock import now_s
from ..model import QueueRef, QueueStats, QueueStorage, StoredKey
from ..sources.info import info_fields
from ..sources.metering import measure_cost
from ..sources.source import Command, Reply, Source
from .estimates import Estimate, add_estimates, estimate_share, estimate_total
from .job_samples import JobSize, measure_by_id, measure_whole_jobs
from .key_sample import read_key_sample
from .limited_reader import LimitedReader
from .memory_report import LargeJob, MemoryReport, QueueMemory, ScatteredMemory

JOB_SAMPLES = 2000  # over all queues
# Of each key, if it has as many: at least LEAST, or more where there are few keys, and at most MOST.
LEAST, MANY, MOST = 10, 200, 400
# Members whose size Redis measures: up to so many jobs in a key are measured exactly.
MEMBERS = 200
MEASURED_KEYS = 200  # of each kind of scattered keys
QUEUES_AT_ONCE = 10
FOR_KEYS = 0.6  # the share of the budget for the keys of queues; the rest is for their jobs
LARGEST, LARGEST_OF_A_QUEUE = 20, 5
SIZES = {"list": "LLEN", "zset": "ZCARD", "set": "SCARD", "hash": "HLEN", "stream": "XLEN"}


@dataclass(slots=True)
class _Key:
    """A key of a queue: its number of members and its own memory."""

    stored: StoredKey
    size: int
    own_bytes: int
    is_readable: bool
    jobs: list[JobSize] | None = None


@dataclass(slots=True)
class _Queue:
    """A queue that is being measured."""

    stats: QueueStats
    storage: QueueStorage
    keys: list[_Key] = field(default_factory=list)


def measure_memory(
    source: Source,
    queues: Sequence[QueueStats],
    backend_of: Callable[[str, str], Backend],
    reader: LimitedReader | None = None,
) -> MemoryReport:
    """Measure the memory of `queues`, which are all on `source`.

    Raises BackendUnavailable, and Forbidden if MEMORY USAGE is not permitted. Cost: within the budget of LimitedReader,
    at most 50 commands in a round trip.
    """
    reader = reader or LimitedReader(source)
    with measure_cost() as meter:
        (info,) = reader.read([("INFO", "memory")])
        measured, unknown = _read_queues(reader, source, queues, backend_of)
        _sample_jobs(reader, Scripts(source), measured)
        scattered, scanned, all_keys = _read_scattered(reader, source, measured)
    found = sorted(map(_memory_of, measured), key=lambda each: -each.estimate.total_bytes)
    used = info_fields(info).get("used_memory", "") if isinstance(info, bytes) else ""
    return MemoryReport(
        at=now_s(),
        used_bytes=int(used) if used.isdigit() else None,
        queues=tuple(found),
        scattered=scattered,
        largest=_largest_jobs(measured),
        unmeasured=unknown,
        scanned_keys=scanned,
        all_keys=all_keys,
        commands=meter.commands,
        round_trips=meter.round_trips,
        seconds=meter.seconds,
    )


def _read_queues(
    reader: LimitedReader, source: Source, queues: Sequence[QueueStats], backend_of: Callable[[str, str], Backend]
) -> tuple[list[_Queue], int]:
    """(the queues with their keys, those with most jobs first; how many could not be measured)."""
    measured: list[_Queue] = []
    wanted = sorted(queues, key=lambda queue: -_known_jobs(queue))
    described = [(stats, backend_of(stats.source, stats.backend).describe_storage(stats.ref)) for stats in wanted]
    known = [(stats, storage) for stats, storage in described if storage is not None]
    for start in range(0, len(known), QUEUES_AT_ONCE):
        if reader.spent_ratio >= FOR_KEYS:
            break
        part = [_Queue(stats, storage) for stats, storage in known[start : start + QUEUES_AT_ONCE]]
        _read_keys(reader, source, part)
        measured += [] if reader.is_spent else part
    return measured, len(queues) - len(measured)


def _read_keys(reader: LimitedReader, source: Source, queues: Sequence[_Queue]) -> None:
    """Read the sizes of all keys of the queues, and the memory of those that are there."""
    places = [(queue, stored) for queue in queues for stored in queue.storage.keys]
    sizes = reader.read([(SIZES[stored.kind], stored.key) for _, stored in places])
    there = [stored.key for (_, stored), size in zip(places, sizes, strict=True) if size != 0]
    usages = dict(zip(there, reader.read([_usage(key) for key in there]), strict=True))
    for reply in usages.values():
        if isinstance(reply, NoPermissionError) and " access " not in str(reply):
            source.check_reply(reply)
    for (queue, stored), size in zip(places, sizes, strict=True):
        own_bytes = _number(usages.get(stored.key))
        queue.keys.append(_Key(stored, _number(size), own_bytes, isinstance(size, int)))


def _known_jobs(queue: QueueStats) -> int:
    return sum(entry.count or 0 for entry in queue.native)


def _sample_jobs(reader: LimitedReader, scripts: Scripts, queues: Sequence[_Queue]) -> None:
    """Measure random jobs of all keys with jobs, those with most jobs first; more of these."""
    wanted = [(queue, key) for queue in queues for key in queue.keys if key.stored.state is not None and key.size]
    total = sum(key.size for _, key in wanted)
    least = max(LEAST, min(MANY, JOB_SAMPLES // max(1, len(wanted))))
    for queue, key in sorted(wanted, key=lambda each: -each[1].size):
        count = min(key.size, MOST, max(least, JOB_SAMPLES * key.size // total))
        if key.stored.by_id:
            key.jobs = measure_by_id(reader, queue.storage, key.stored, key.size, count)
        else:
            key.jobs = measure_whole_jobs(reader, scripts, queue.storage, key.stored, key.size, count)


def _memory_of(queue: _Queue) -> QueueMemory:
    jobs = [key for key in queue.keys if key.stored.state is not None]
    return QueueMemory(
        ref=queue.stats.ref,
        estimate=add_estimates(map(_key_memory, queue.keys)),
        jobs=sum(key.size for key in jobs),
        sampled=sum(len(key.jobs or ()) for key in jobs),
        is_complete=all(key.is_readable and (key.jobs is not None or not key.size) for key in jobs),
    )


def _key_memory(key: _Key) -> Estimate:
    """The memory of a key and of the keys of its jobs."""
    sizes = [job.size_bytes for job in key.jobs or ()]
    if key.stored.by_id:
        return add_estimates([Estimate(key.own_bytes), estimate_total(sizes, key.size)])
    # Redis measures the first members: of a long key, they are no random ones.
    return estimate_total(sizes, key.size) if sizes and key.size > MEMBERS else Estimate(key.own_bytes)


def _largest_jobs(queues: Sequence[_Queue]) -> tuple[LargeJob, ...]:
    found = [
        LargeJob(queue.stats.ref, key.stored.state, job.job_id, job.size_bytes)
        for queue in queues
        for key in queue.keys
        if key.stored.state is not None
        for job in key.jobs or ()
        if job.size_bytes
    ]
    largest: list[LargeJob] = []
    counts: Counter[QueueRef] = Counter()
    for job in sorted(found, key=lambda job: -job.size_bytes):
        if counts[job.ref] < LARGEST_OF_A_QUEUE and len(largest) < LARGEST:
            counts[job.ref] += 1
            largest.append(job)
    return tuple(largest)


def _read_scattered(
    reader: LimitedReader, source: Source, queues: Sequence[_Queue]
) -> tuple[tuple[ScatteredMemory, ...], int, int | None]:
    """(Queuedeck's own keys and those that belong to no queue, how many keys were looked at, how many there are)."""
    kinds: dict[str | None, list[bytes]] = {None: [f"{source.prefix}:".encode()]}
    for queue in queues:
        kinds.setdefault(queue.stats.backend, []).extend(queue.storage.scattered)
    sample = read_key_sample(reader)
    keys, population = sample.keys, sample.population
    found = []
    for backend, prefixes in kinds.items():
        matching = [key for key in keys if key.startswith(tuple(prefixes))]
        sizes = [_number(reply) for reply in reader.read([_usage(key) for key in matching[:MEASURED_KEYS]])]
        if matching:
            estimate = estimate_share(sizes, len(matching), len(keys), population)
            found.append(ScatteredMemory(backend, estimate, round(len(matching) * population / len(keys))))
    return tuple(found), len(keys), population or None


def _usage(key: bytes) -> Command:
    return ("MEMORY", "USAGE", key, "SAMPLES", MEMBERS)


def _number(reply: Reply) -> int:
    return reply if isinstance(reply, int) else 0
