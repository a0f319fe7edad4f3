"""Groups the known dead letters by error, and reports how many of them it covers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..model import QueueRef, State
from .fingerprint import Fingerprint
from .index import DeadLetter, IndexedList, Problem

# Maximum number of groups, since hostile errors may all differ; the jobs of further groups are only counted.
MAX_GROUPS = 1000
SAMPLES = 3
SLOTS = 12
SLOT_S = 300.0


@dataclass(frozen=True, slots=True)
class GroupQueue:
    """One queue that has jobs of a group; `ref` is the queue whose list contains them."""

    ref: QueueRef
    queue: str
    state: State
    count: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One job of a group, and the list that contains it: queue and state."""

    ref: QueueRef
    state: State
    row: DeadLetter


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Jobs that died of the same error; the figures cover the jobs that were read.

    `trend` = deaths in SLOTS slots of SLOT_S, oldest first; `jobs` = all jobs, newest first. Times in seconds since
    1970, None if no job has one.
    """

    kind: Fingerprint
    count: int
    first_at: float | None
    last_at: float | None
    trend: tuple[int, ...]
    spots: tuple[GroupQueue, ...]  # most jobs first
    jobs: tuple[GroupMember, ...]
    whole: bool  # all lists that contain jobs of it were read completely

    @property
    def recent(self) -> int:
        """Deaths within the last hour."""
        return sum(self.trend)

    @property
    def is_dlq(self) -> bool:
        """Whether some of its jobs wait in a dead-letter queue."""
        return any(spot.state is State.WAITING for spot in self.spots)


@dataclass(frozen=True, slots=True)
class GroupedDeadLetters:
    """All groups, most jobs first, from `scanned` of the `total` jobs in the lists.

    `beyond` = jobs of groups beyond MAX_GROUPS. `at_least` = there may be more jobs than `total` that are not listed.
    """

    groups: tuple[ErrorGroup, ...]
    scanned: int
    total: int
    read_at: float  # seconds since 1970
    beyond: int = 0
    problems: tuple[Problem, ...] = ()
    at_least: bool = False

    @property
    def truncated(self) -> bool:
        """Whether there are dead letters that belong to no group."""
        return self.scanned < self.total or self.beyond > 0 or self.at_least

    def find(self, fingerprint: str) -> ErrorGroup | None:
        """The group with that fingerprint; None if no job that was read belongs to it."""
        return next((group for group in self.groups if group.kind.id == fingerprint), None)


def group_dead_letters(lists: Sequence[IndexedList], problems: Sequence[Problem], now: float) -> GroupedDeadLetters:
    """Group the known rows of `lists` by error. `now` in seconds since 1970. Pure."""
    piles: dict[str, _GroupBuilder] = {}
    beyond = 0
    for listed in lists:
        ref, state, whole = listed.ref, listed.state, listed.whole and listed.next_page is None
        for row in listed.rows.values():
            pile = piles.get(row.kind.id)
            if pile is None:
                if len(piles) >= MAX_GROUPS:
                    beyond += 1
                    continue
                pile = piles[row.kind.id] = _GroupBuilder(row.kind)
            pile.whole = pile.whole and whole
            pile.add(GroupMember(ref, state, row), now)
    return GroupedDeadLetters(
        groups=tuple(sorted((pile.build_group() for pile in piles.values()), key=lambda group: -group.count)),
        scanned=sum(len(listed.rows) for listed in lists),
        total=sum(listed.total for listed in lists),
        read_at=now,
        beyond=beyond,
        problems=tuple(problems),
        at_least=bool(problems) or any(listed.place.at_least for listed in lists),
    )


def without_jobs(
    grouped: GroupedDeadLetters, gone: Mapping[tuple[QueueRef, State], Collection[str]]
) -> GroupedDeadLetters:
    """The reading without the jobs of `gone`: ids by list. Pure."""

    def left(member: GroupMember) -> bool:
        return member.row.id in gone.get((member.ref, member.state), ())

    kept: list[ErrorGroup] = []
    lost = 0
    for group in grouped.groups:
        touched = any((spot.ref, spot.state) in gone for spot in group.spots)
        jobs = [member for member in group.jobs if not left(member)] if touched else group.jobs
        if len(jobs) == len(group.jobs):
            kept.append(group)
            continue
        lost += len(group.jobs) - len(jobs)
        if jobs:
            pile = _GroupBuilder(group.kind, group.whole)
            for member in jobs:
                pile.add(member, grouped.read_at)
            kept.append(pile.build_group())
    if not lost:
        return grouped
    return replace(
        grouped,
        groups=tuple(sorted(kept, key=lambda group: -group.count)),
        scanned=grouped.scanned - lost,
        total=grouped.total - lost,
    )


@dataclass(slots=True)
class _GroupBuilder:
    """Collects the jobs of one group."""

    kind: Fingerprint
    whole: bool = True
    first_at: float | None = None
    last_at: float | None = None
    trend: list[int] = field(default_factory=lambda: [0] * SLOTS)
    spots: dict[tuple[QueueRef, State, str], int] = field(default_factory=dict)
    jobs: list[GroupMember] = field(default_factory=list)

    def add(self, member: GroupMember, now: float) -> None:
        row = member.row
        spot = (member.ref, member.state, row.queue)
        self.spots[spot] = self.spots.get(spot, 0) + 1
        if row.at is not None:
            self.first_at = row.at if self.first_at is None else min(self.first_at, row.at)
            self.last_at = row.at if self.last_at is None else max(self.last_at, row.at)
            slot = int((now - row.at) // SLOT_S)
            if slot < SLOTS:
                self.trend[SLOTS - 1 - max(0, slot)] += 1
        self.jobs.append(member)

    def build_group(self) -> ErrorGroup:
        spots = (GroupQueue(ref, queue, state, count) for (ref, state, queue), count in self.spots.items())
        return ErrorGroup(
            kind=self.kind,
            count=len(self.jobs),
            first_at=self.first_at,
            last_at=self.last_at,
            trend=tuple(self.trend),
            spots=tuple(sorted(spots, key=lambda spot: -spot.count)),
            jobs=tuple(sorted(self.jobs, key=lambda job: -(job.row.at or 0.0))),
            whole=self.whole,
        )
