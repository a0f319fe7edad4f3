"""Dead letters grouped by what killed them: a bounded look through all lists that says how far it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dashboard.backends.base import WINDOW_ROWS
from dashboard.clock import monotonic_s
from dashboard.model import Job, QueueRef, QueueStats, Searched, State
from dashboard.triage.fingerprint import Fingerprint, of_job
from dashboard.triage.lists import BackendOf, Place, Unreadable, every_row, places, window

ROWS_PER_LIST = 5000
SECONDS = 2.0
# Hostile errors may all differ: so many kinds are told apart, the jobs beyond are only counted.
MAX_GROUPS = 1000
KEPT_JOBS = 50
KEPT_TEXT = 300
SAMPLES = 3
SLOTS = 12
SLOT_S = 300.0


@dataclass(frozen=True, slots=True)
class Member:
    """One job of a group, as much of it as a row shows. `at` = when it died; None where the library tells no time."""

    ref: QueueRef
    id: str
    queue: str
    name: str | None
    at: float | None
    attempts: int | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Spot:
    """One queue that has jobs of a group; `ref` leads to the list in which they stand."""

    ref: QueueRef
    queue: str
    state: State
    count: int


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that died of the same error; figures are of the jobs that were read.

    `trend` = deaths in SLOTS slices of SLOT_S, the oldest first; `jobs` = the newest KEPT_JOBS. Times in seconds since
    1970, None where no job tells one.
    """

    kind: Fingerprint
    count: int
    first_at: float | None
    last_at: float | None
    trend: tuple[int, ...]
    spots: tuple[Spot, ...]  # most jobs first
    jobs: tuple[Member, ...]
    whole: bool  # all lists in which it was seen were read to their end

    @property
    def recent(self) -> int:
        """Deaths within the hour."""
        return sum(self.trend)

    @property
    def is_dlq(self) -> bool:
        """Whether some of it waits in a dead-letter queue."""
        return any(spot.state is State.WAITING for spot in self.spots)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look brought: groups, most jobs first, of `scanned` rows of the `total` that the lists hold.

    `beyond` = jobs of kinds beyond MAX_GROUPS; `problems` = (source, library, queue, why it could not be read).
    """

    groups: tuple[Group, ...]
    scanned: int
    total: int
    seconds: float
    read_at: float
    beyond: int = 0
    problems: tuple[tuple[str, str, str, str], ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether there are dead letters that were not read."""
        return self.scanned < self.total or self.beyond > 0

    def find(self, fingerprint: str) -> Group | None:
        """The group of that fingerprint; None when no job that was read belongs to it."""
        return next((group for group in self.groups if group.kind.id == fingerprint), None)


def read(queues: Sequence[QueueStats], backend_of: BackendOf, dlq_globs: Sequence[str], now: float) -> Reading:
    """The dead letters of `queues`, the newest ROWS_PER_LIST of each list, for SECONDS at most.

    The lists take turns, a window each, so that a long one does not hide the others. `now` in seconds since 1970.
    Cost: at most 2 round trips for each WINDOW_ROWS rows. Never raises: what cannot be read is among the problems.
    """
    started = monotonic_s()
    look = _Look(now)
    open_lists = places(queues, backend_of, dlq_globs)
    counted = {id(place): place.count for place in open_lists}
    for page in range(1, ROWS_PER_LIST // WINDOW_ROWS + 1):
        for place in tuple(open_lists):
            if monotonic_s() - started > SECONDS:
                return look.reading(sum(counted.values()), monotonic_s() - started)
            try:
                rows = window(place, backend_of, page)
            except Unreadable as exc:
                look.note(place, str(exc))
                open_lists.remove(place)
                continue
            look.add(place, rows)
            if len(rows) < WINDOW_ROWS:
                # The list itself says how long it is: it may have changed since it was counted.
                counted[id(place)] = look.looked(place)
                look.end(place)
                open_lists.remove(place)
    return look.reading(sum(counted.values()), monotonic_s() - started)


def members(
    queues: Sequence[QueueStats],
    backend_of: BackendOf,
    dlq_globs: Sequence[str],
    fingerprint: str,
    most: int,
    rows: int,
) -> Iterator[tuple[QueueStats, Job]]:
    """The jobs of a group as they are now, `most` of them at most, from the first `rows` of each list.

    Each comes with the queue in whose list it stands, its state (the list's) and its stamp. A list that cannot be read
    is left out. Cost: at most 2 round trips for each WINDOW_ROWS rows that are looked through.
    """
    found = 0
    for place in places(queues, backend_of, dlq_globs):
        try:
            for row in every_row(place, backend_of, rows):
                if found >= most:
                    return
                if of_job(row.job, row.stack).id == fingerprint:
                    found += 1
                    yield place.queue, row.job
        except Unreadable:
            continue


@dataclass(slots=True)
class _Pile:
    """A group in the making."""

    kind: Fingerprint
    count: int = 0
    first_at: float | None = None
    last_at: float | None = None
    trend: list[int] = field(default_factory=lambda: [0] * SLOTS)
    spots: dict[tuple[int, str], tuple[Place, int]] = field(default_factory=dict)
    jobs: list[Member] = field(default_factory=list)

    def add(self, place: Place, job: Job, now: float) -> None:
        at = death(job)
        self.count += 1
        key = (id(place), job.queue)
        self.spots[key] = (place, self.spots[key][1] + 1 if key in self.spots else 1)
        if at is not None:
            self.first_at = at if self.first_at is None else min(self.first_at, at)
            self.last_at = at if self.last_at is None else max(self.last_at, at)
            slot = int((now - at) // SLOT_S)
            if slot < SLOTS:
                self.trend[SLOTS - 1 - max(0, slot)] += 1
        self.jobs.append(_member(place, job, at))
        if len(self.jobs) >= 2 * KEPT_JOBS:
            self.jobs = _newest(self.jobs)

    def group(self, ended: set[int]) -> Group:
        spots = [Spot(place.queue.ref, name, place.state, n) for (_, name), (place, n) in self.spots.items()]
        return Group(
            kind=self.kind,
            count=self.count,
            first_at=self.first_at,
            last_at=self.last_at,
            trend=tuple(self.trend),
            spots=tuple(sorted(spots, key=lambda spot: -spot.count)),
            jobs=tuple(_newest(self.jobs)),
            whole=all(place in ended for place, _ in self.spots),
        )


class _Look:
    """One look through the lists."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._piles: dict[str, _Pile] = {}
        self._seen: dict[int, set[str]] = {}
        self._ended: set[int] = set()
        self._beyond = 0
        self._problems: list[tuple[str, str, str, str]] = []

    def add(self, place: Place, rows: Sequence[Searched]) -> None:
        seen = self._seen.setdefault(id(place), set())
        for row in rows:
            if row.job.id in seen:
                continue  # the list grew at its head while it was read
            seen.add(row.job.id)
            kind = of_job(row.job, row.stack)
            pile = self._piles.get(kind.id)
            if pile is None:
                if len(self._piles) >= MAX_GROUPS:
                    self._beyond += 1
                    continue
                pile = self._piles[kind.id] = _Pile(kind)
            pile.add(place, row.job, self._now)

    def looked(self, place: Place) -> int:
        return len(self._seen.get(id(place), ()))

    def end(self, place: Place) -> None:
        self._ended.add(id(place))

    def note(self, place: Place, why: str) -> None:
        queue = place.queue
        self._problems.append((queue.source, queue.backend, queue.name, why))

    def reading(self, total: int, seconds: float) -> Reading:
        scanned = sum(len(seen) for seen in self._seen.values())
        groups = sorted((pile.group(self._ended) for pile in self._piles.values()), key=lambda group: -group.count)
        return Reading(
            groups=tuple(groups),
            scanned=scanned,
            total=max(total, scanned),
            seconds=seconds,
            read_at=self._now,
            beyond=self._beyond,
            problems=tuple(self._problems),
        )


def death(job: Job) -> float | None:
    """When a job died, in seconds since 1970; of one that waits in a dead-letter queue, when it came there."""
    at = job.enqueued_at if job.state is State.WAITING else job.finished_at
    return at.timestamp() if at is not None else None


def _member(place: Place, job: Job, at: float | None) -> Member:
    text = (job.error.message or job.error.class_name) if job.error else job.problem
    return Member(
        ref=place.queue.ref,
        id=job.id,
        queue=job.queue,
        name=job.name,
        at=at,
        attempts=job.attempts,
        text=text[:KEPT_TEXT] if text else None,
    )


def _newest(jobs: list[Member]) -> list[Member]:
    return sorted(jobs, key=lambda job: -(job.at or 0.0))[:KEPT_JOBS]
