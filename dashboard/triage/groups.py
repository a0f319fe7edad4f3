"""Dead letters grouped by what killed them, out of the rows that are known. Says how far it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dashboard.model import Job, QueueRef, QueueStats, State
from dashboard.triage.fingerprint import Fingerprint, of_job
from dashboard.triage.lists import BackendOf, Unreadable, every_row, places
from dashboard.triage.rows import Listed, Problem, Row

# Hostile errors may all differ: so many kinds are told apart, the jobs beyond are only counted.
MAX_GROUPS = 1000
KEPT_JOBS = 50
SAMPLES = 3
SLOTS = 12
SLOT_S = 300.0


@dataclass(frozen=True, slots=True)
class Spot:
    """One queue that has jobs of a group; `ref` leads to the list in which they stand."""

    ref: QueueRef
    queue: str
    state: State
    count: int


@dataclass(frozen=True, slots=True)
class Member:
    """One job of a group, and the queue in whose list it stands."""

    ref: QueueRef
    row: Row


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
    """All groups, most jobs first, of `scanned` jobs of the `total` that the lists hold.

    `beyond` = jobs of kinds beyond MAX_GROUPS.
    """

    groups: tuple[Group, ...]
    scanned: int
    total: int
    read_at: float  # seconds since 1970
    beyond: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether there are dead letters that are in no group."""
        return self.scanned < self.total or self.beyond > 0

    def find(self, fingerprint: str) -> Group | None:
        """The group of that fingerprint; None when no job that was read belongs to it."""
        return next((group for group in self.groups if group.kind.id == fingerprint), None)


def grouped(lists: Sequence[Listed], problems: Sequence[Problem], now: float) -> Reading:
    """The rows that are known of `lists`, by what killed them. `now` in seconds since 1970. Pure."""
    piles: dict[str, _Pile] = {}
    beyond = 0
    for listed in lists:
        for row in listed.rows.values():
            pile = piles.get(row.kind.id)
            if pile is None:
                if len(piles) >= MAX_GROUPS:
                    beyond += 1
                    continue
                pile = piles[row.kind.id] = _Pile(row.kind)
            pile.add(listed, row, now)
    return Reading(
        groups=tuple(sorted((pile.group() for pile in piles.values()), key=lambda group: -group.count)),
        scanned=sum(len(listed.rows) for listed in lists),
        total=sum(listed.total for listed in lists),
        read_at=now,
        beyond=beyond,
        problems=tuple(problems),
    )


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
    whole: bool = True
    trend: list[int] = field(default_factory=lambda: [0] * SLOTS)
    spots: dict[tuple[QueueRef, State, str], int] = field(default_factory=dict)
    jobs: list[Member] = field(default_factory=list)

    def add(self, listed: Listed, row: Row, now: float) -> None:
        self.count += 1
        self.whole = self.whole and listed.whole and listed.next_page is None
        spot = (listed.ref, listed.state, row.queue)
        self.spots[spot] = self.spots.get(spot, 0) + 1
        if row.at is not None:
            self.first_at = row.at if self.first_at is None else min(self.first_at, row.at)
            self.last_at = row.at if self.last_at is None else max(self.last_at, row.at)
            slot = int((now - row.at) // SLOT_S)
            if slot < SLOTS:
                self.trend[SLOTS - 1 - max(0, slot)] += 1
        self.jobs.append(Member(listed.ref, row))
        if len(self.jobs) >= 2 * KEPT_JOBS:
            self.jobs = _newest(self.jobs)

    def group(self) -> Group:
        spots = (Spot(ref, queue, state, count) for (ref, state, queue), count in self.spots.items())
        return Group(
            kind=self.kind,
            count=self.count,
            first_at=self.first_at,
            last_at=self.last_at,
            trend=tuple(self.trend),
            spots=tuple(sorted(spots, key=lambda spot: -spot.count)),
            jobs=tuple(_newest(self.jobs)),
            whole=self.whole,
        )


def _newest(jobs: list[Member]) -> list[Member]:
    return sorted(jobs, key=lambda job: -(job.row.at or 0.0))[:KEPT_JOBS]
