"""Looks for leftovers in a sample of the key space and of each list. Only reads, in small batches, within a budget."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ..backends.base import Backend
from ..backends.unreadable_data import data_errors_foreseen
from ..clock import monotonic_s, now_s
from ..errors import BackendUnavailable, NotFound, QueuedeckError
from ..memory_usage.job_samples import FAR_BATCH, sample_places
from ..memory_usage.key_sample import KeySample, read_key_sample
from ..memory_usage.limited_reader import LimitedReader
from ..model import JobQuery, QueueRef, QueueStats, QueueStorage, State, StoredKey
from ..sources.metering import measure_cost
from ..sources.source import Command, Source, text
from ..units import format_count
from .leftover_report import MAX_EXAMPLES, LeftoverExample, LeftoverKind, LeftoverReport, Leftovers

T = TypeVar("T")

JOBS_READ, JOBS_S = 200, 2.0  # job hashes that are looked for in the lists of their queue
IDS_PER_KEY, IDS_IN_ALL = 50, 3000
ACTIVE_QUEUES, ACTIVE_JOBS = 50, 50
# A member can have moved by so many places between two reads.
NEAR = 50


class _Queue(NamedTuple):
    stats: QueueStats
    backend: Backend
    storage: QueueStorage


class _Hash(NamedTuple):
    """A key that is the hash of a job of one of the `owners`."""

    key: bytes
    job_id: str
    owners: tuple[_Queue, ...]


class _Listed(NamedTuple):
    """An id that a list names: its raw member and its place there. `weight`: for how many ids of the list it is."""

    queue: _Queue
    stored: StoredKey
    place: int
    weight: float
    member: bytes

    @property
    def job_id(self) -> str:
        return self.queue.storage.id_of(self.stored, self.member)


def find_leftovers(
    source: Source, queues: Sequence[QueueStats], backend_of: Callable[[str, str], Backend]
) -> LeftoverReport:
    """Look for leftovers of `queues`, which are all on `source`.

    Raises BackendUnavailable. Cost: at most 60,000 commands in 4 s, 50 in a round trip, and 200 jobs read in 2 s.
    """
    reader = LimitedReader(source)
    with measure_cost() as meter:
        known = _with_storage(queues, backend_of)
        keys = read_key_sample(reader)
        kinds = (
            _find_unlisted(reader, known, keys),
            _find_missing(reader, known),
            _find_unlocked(known),
            _find_private(reader, known, keys),
        )
    return LeftoverReport(
        at=now_s(),
        kinds=kinds,
        scanned_keys=len(keys.keys),
        all_keys=keys.population,
        is_complete=not reader.is_spent,
        commands=meter.commands,
        round_trips=meter.round_trips,
        seconds=meter.seconds,
    )


def _with_storage(queues: Sequence[QueueStats], backend_of: Callable[[str, str], Backend]) -> list[_Queue]:
    found = []
    for stats in queues:
        backend = backend_of(stats.source, stats.backend)
        storage = backend.describe_storage(stats.ref)
        if storage is not None:
            found.append(_Queue(stats, backend, storage))
    return found


def _find_unlisted(reader: LimitedReader, queues: Sequence[_Queue], keys: KeySample) -> Leftovers:
    """Hashes of jobs that no list of their queue names."""
    hashes = _job_hashes(queues, keys)
    checked, found = 0, []
    ends_at = monotonic_s() + JOBS_S
    for queue, job_id in _with_owners(reader, _some(hashes, JOBS_READ)):
        if monotonic_s() > ends_at:
            break
        try:
            with data_errors_foreseen(f"Job {job_id[:200]!r}"):
                job = queue.backend.read_job(queue.stats.ref, job_id)
        except NotFound:
            continue  # it has just been removed
        except BackendUnavailable:
            raise
        except QueuedeckError:
            continue
        checked += 1
        if job.abandoned and job.state is not State.ACTIVE:
            found.append(LeftoverExample(queue.stats.ref, job_id, None, job.problem or "in none of the queue's lists"))
    whole = keys.is_complete and checked >= len(hashes)
    population = len(hashes) * keys.population / max(1, len(keys.keys))
    return _leftovers(LeftoverKind.UNLISTED, found, checked, None if whole else population)


def _job_hashes(queues: Sequence[_Queue], keys: KeySample) -> list[_Hash]:
    """The keys of the sample that are hashes of jobs."""
    by_prefix: dict[bytes, list[_Queue]] = defaultdict(list)
    for queue in queues:
        if queue.storage.job_prefix is not None:
            by_prefix[queue.storage.job_prefix].append(queue)
    found = []
    for key in keys.keys:
        head, colon, tail = key.rpartition(b":")
        owners, job_id = by_prefix.get(head + colon), text(tail)
        if owners and job_id and job_id not in owners[0].storage.not_ids:
            found.append(_Hash(key, job_id, tuple(owners)))
    return found


def _with_owners(reader: LimitedReader, hashes: Sequence[_Hash]) -> list[tuple[_Queue, str]]:
    """Each job with its queue, without those of queues that are unknown."""
    shared = [each for each in hashes if each.owners[0].storage.owner_field]
    fields = reader.read([("HGET", each.key, each.owners[0].storage.owner_field) for each in shared])
    owned = [
        (owner, each.job_id)
        for each, field in zip(shared, fields, strict=True)
        for owner in each.owners
        if owner.storage.owner == field
    ]
    return [*owned, *((each.owners[0], each.job_id) for each in hashes if not each.owners[0].storage.owner_field)]


def _find_missing(reader: LimitedReader, queues: Sequence[_Queue]) -> Leftovers:
    """Ids in lists whose job has no keys."""
    listed, population = _sample_ids(reader, queues)
    suspects = [each for each, there in zip(listed, _exist(reader, listed), strict=True) if there == 0]
    # A worker can have removed the job after its list was read: it is then no longer in the list either.
    still = [each for each, near in zip(suspects, _read_near(reader, suspects), strict=True) if each.member in near]
    gone = [each for each, there in zip(still, _exist(reader, still), strict=True) if there == 0]
    found = [
        LeftoverExample(each.queue.stats.ref, each.job_id, each.stored.state, "its data was deleted or has expired")
        for each in gone
    ]
    estimate = sum(each.weight for each in gone)
    whole = population <= len(listed)
    return _leftovers(LeftoverKind.MISSING, found, len(listed), None if whole else population, estimate)


def _sample_ids(reader: LimitedReader, queues: Sequence[_Queue]) -> tuple[list[_Listed], int]:
    """(random ids of the lists, how many ids the lists have)."""
    places = [(queue, stored) for queue in queues for stored in queue.storage.keys if stored.by_id]
    sizes = reader.read([("LLEN" if stored.kind == "list" else "ZCARD", stored.key) for _, stored in places])
    wanted: list[tuple[_Queue, StoredKey, int, float]] = []
    population = 0
    for (queue, stored), size in zip(places, sizes, strict=True):
        if isinstance(size, int) and size:
            population += size
            chosen = sample_places(size, IDS_PER_KEY)
            wanted += [(queue, stored, place, size / len(chosen)) for place in chosen]
    left_out = max(1.0, len(wanted) / IDS_IN_ALL)
    wanted = _some(wanted, IDS_IN_ALL)
    replies = reader.read([_range(stored, place, place) for _, stored, place, _ in wanted], FAR_BATCH)
    listed = [
        _Listed(queue, stored, place, weight * left_out, reply[0])
        for (queue, stored, place, weight), reply in zip(wanted, replies, strict=True)
        if isinstance(reply, list) and reply
    ]
    return [each for each in listed if each.job_id], population


def _exist(reader: LimitedReader, listed: Sequence[_Listed]) -> list[object]:
    """0 for each id whose job does not exist."""
    commands: list[Command] = [("EXISTS", each.queue.storage.job_keys(each.job_id)[0]) for each in listed]
    return list(reader.read(commands))


def _read_near(reader: LimitedReader, listed: Sequence[_Listed]) -> list[list[bytes]]:
    """The members around each of the places."""
    commands = [_range(each.stored, max(0, each.place - NEAR), each.place + NEAR) for each in listed]
    return [reply if isinstance(reply, list) else [] for reply in reader.read(commands, FAR_BATCH)]


def _range(stored: StoredKey, first: int, last: int) -> Command:
    return ("LRANGE" if stored.kind == "list" else "ZRANGE", stored.key, first, last)


def _find_unlocked(queues: Sequence[_Queue]) -> Leftovers:
    """Active jobs that no worker holds any more."""
    busy = [queue for queue in queues if queue.stats.counts.active and State.ACTIVE in queue.backend.abandoned_actions]
    checked, found = 0, []
    for queue in busy[:ACTIVE_QUEUES]:
        try:
            with data_errors_foreseen(f"The active jobs of {queue.stats.name!r}"):
                page = queue.backend.list_jobs(queue.stats.ref, JobQuery(state=State.ACTIVE, per_page=ACTIVE_JOBS))
        except BackendUnavailable:
            raise
        except QueuedeckError:
            continue
        checked += len(page.jobs)
        found += [
            LeftoverExample(queue.stats.ref, job.id, State.ACTIVE, job.problem or "no worker holds it")
            for job in page.jobs
            if job.abandoned
        ]
    in_all = sum(queue.stats.counts.active or 0 for queue in busy)
    return _leftovers(LeftoverKind.UNLOCKED, found, checked, in_all if in_all > checked else None)


def _find_private(reader: LimitedReader, queues: Sequence[_Queue], keys: KeySample) -> Leftovers:
    """Lists in which workers keep the jobs that they have fetched, of workers that are gone."""
    checked, found = 0, []
    for queue in queues:
        mine = [key for key in keys.keys if queue.storage.private and key.startswith(queue.storage.private)]
        if not mine:
            continue
        alive = _worker_names(queue.backend, [each.stats.ref for each in queues if each.backend is queue.backend])
        if alive is None:
            continue
        checked += len(mine)
        dead = [key for key in mine if not any(name in text(key) for name in alive)]
        sizes = reader.read([("LLEN", key) for key in dead])
        found += [
            LeftoverExample(queue.stats.ref, "", None, f"{text(key)}: {format_count(size, 'job')}")
            for key, size in zip(dead, sizes, strict=True)
            if isinstance(size, int) and size
        ]
    in_all = checked * keys.population / max(1, len(keys.keys))
    return _leftovers(LeftoverKind.PRIVATE, found, checked, None if keys.is_complete else in_all)


def _worker_names(backend: Backend, refs: Sequence[QueueRef]) -> list[str] | None:
    """`<host>:<pid>:` of each worker; None if one of them is unknown: no list is then known to be without a worker."""
    try:
        workers = backend.list_workers(refs)
    except BackendUnavailable:
        raise
    except QueuedeckError:
        return None
    if any(worker.hostname is None or worker.pid is None for worker in workers):
        return None
    return [f"{worker.hostname}:{worker.pid}:" for worker in workers]


def _some(found: Sequence[T], most: int) -> list[T]:
    """All of them, or `most` random ones."""
    return list(found) if len(found) <= most else random.sample(found, most)


def _leftovers(
    kind: LeftoverKind,
    found: Sequence[LeftoverExample],
    checked: int,
    population: float | None,
    estimate: float | None = None,
) -> Leftovers:
    """`population`: about how many there are to check, None if all were; `estimate`: if they were not chosen evenly."""
    examples = tuple(found[:MAX_EXAMPLES])
    if population is None or not checked:
        return Leftovers(kind, len(found), checked, None, None, examples)
    population = max(checked, population)
    estimate = len(found) * population / checked if estimate is None else estimate
    return Leftovers(kind, len(found), checked, round(population), round(estimate), examples)
