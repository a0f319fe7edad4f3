"""Groups the known dead letters by error, and reports how many of them it covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..model import QueueRef, State
from .fingerprint import NormalizedError, error_title
from .index import MAX_ROWS, DeadLetter, IndexedList
from .lists import DeadListRef, UnreadList

# Maximum number of groups, since hostile errors may all differ; the jobs of further groups are only counted.
MAX_GROUPS = 1000
SAMPLES = 3
SLOTS = 12
SLOT_S = 300.0


@dataclass(frozen=True, slots=True)
class GroupQueue:
    """The queue `name` with `count` jobs of a group, which are in the list of `ref` and `state`."""

    ref: QueueRef
    name: str
    state: State
    count: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One dead letter of a group, and the list that contains it: the queue whose list it is, and the state."""

    ref: QueueRef
    state: State
    dead_letter: DeadLetter


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Jobs that died of the same error; the figures cover the jobs that were read.

    `trend` = deaths in SLOTS slots of SLOT_S, oldest first; `members` = all jobs, newest first. Times in seconds since
    1970, None if no job has one.
    """

    error: NormalizedError
    count: int
    first_at: float | None
    last_at: float | None
    trend: tuple[int, ...]
    queues: tuple[GroupQueue, ...]  # most jobs first
    members: tuple[GroupMember, ...]
    whole: bool  # all lists that contain jobs of it were read completely
    complete_from: float | None = None  # earlier deaths are only known of some jobs; None: of all, or of no time

    @property
    def newest_message(self) -> str | None:
        """The error message of the newest job that has one, as stored in DeadLetter; None if no job has one."""
        return next((member.dead_letter.message for member in self.members if member.dead_letter.message), None)

    @property
    def title(self) -> str:
        """The error of the newest job in one line: its class and its message."""
        return error_title(self.error.error_class, self.newest_message)

    @property
    def recent(self) -> int:
        """Deaths within the last hour."""
        return sum(self.trend)

    @property
    def is_dlq(self) -> bool:
        """Whether some of its jobs wait in a dead-letter queue."""
        return any(queue.state is State.WAITING for queue in self.queues)


@dataclass(frozen=True, slots=True)
class GroupedDeadLetters:
    """All groups, most jobs first, from `scanned` of the `total` jobs in the lists.

    `beyond` = jobs of groups beyond MAX_GROUPS. `at_least` = there may be more jobs than `total` that are not listed.
    `reading` = the next reads will add jobs: no figure is final yet.
    """

    groups: tuple[ErrorGroup, ...]
    scanned: int
    total: int
    read_at: float  # seconds since 1970
    beyond: int = 0
    unread_lists: tuple[UnreadList, ...] = ()
    at_least: bool = False
    reading: bool = False

    @property
    def truncated(self) -> bool:
        """Whether there are dead letters that belong to no group."""
        return self.scanned < self.total or self.beyond > 0 or self.at_least

    def is_final(self, group: ErrorGroup) -> bool:
        """Whether the count of `group` covers its lists; otherwise there may be more jobs than were read."""
        return group.whole and not self.reading

    def find(self, fingerprint: str) -> ErrorGroup | None:
        """The group with that fingerprint; None if no job that was read belongs to it."""
        return next((group for group in self.groups if group.error.fingerprint == fingerprint), None)


def group_dead_letters(
    lists: Sequence[IndexedList], unread_lists: Sequence[UnreadList], now: float
) -> GroupedDeadLetters:
    """Group the known dead letters of `lists` by error. `now` in seconds since 1970. Pure."""
    builders: dict[str, _GroupBuilder] = {}
    beyond = 0
    for indexed in lists:
        whole = indexed.whole and indexed.next_page is None
        oldest = None if whole else indexed.oldest_at
        for dead_letter in indexed.dead_letters.values():
            error = dead_letter.error
            builder = builders.get(error.fingerprint)
            if builder is None:
                if len(builders) >= MAX_GROUPS:
                    beyond += 1
                    continue
                builder = builders[error.fingerprint] = _GroupBuilder(error)
            builder.whole = builder.whole and whole
            if oldest is not None:
                builder.complete_from = max(oldest, builder.complete_from or oldest)
            builder.add(GroupMember(indexed.ref, indexed.state, dead_letter), now)
    scanned = sum(len(indexed.dead_letters) for indexed in lists)
    unread = {each.ref for each in unread_lists}
    return GroupedDeadLetters(
        groups=_most_jobs_first(builder.build_group() for builder in builders.values()),
        scanned=scanned,
        total=sum(indexed.total for indexed in lists),
        read_at=now,
        beyond=beyond,
        unread_lists=tuple(unread_lists),
        at_least=bool(unread_lists) or any(indexed.dead_list.at_least for indexed in lists),
        reading=scanned < MAX_ROWS and any(indexed.unfinished and indexed.ref not in unread for indexed in lists),
    )


def without_jobs(grouped: GroupedDeadLetters, removed: Mapping[DeadListRef, Collection[str]]) -> GroupedDeadLetters:
    """`grouped` without the jobs of `removed`: ids by list. Pure."""
    kept: list[ErrorGroup] = []
    lost = 0
    for group in grouped.groups:
        touched = any((queue.ref, queue.state) in removed for queue in group.queues)
        members = [member for member in group.members if not _is_removed(member, removed)] if touched else group.members
        if len(members) == len(group.members):
            kept.append(group)
            continue
        lost += len(group.members) - len(members)
        if members:
            builder = _GroupBuilder(group.error, group.whole, group.complete_from)
            for member in members:
                builder.add(member, grouped.read_at)
            kept.append(builder.build_group())
    if not lost:
        return grouped
    return replace(grouped, groups=_most_jobs_first(kept), scanned=grouped.scanned - lost, total=grouped.total - lost)


def only_lists(grouped: GroupedDeadLetters, lists: Mapping[DeadListRef, int]) -> GroupedDeadLetters:
    """`grouped` with the jobs of `lists` only, which are the numbers of jobs by list. Pure."""
    found: list[ErrorGroup] = []
    for group in grouped.groups:
        members = [member for member in group.members if (member.ref, member.state) in lists]
        if members:
            builder = _GroupBuilder(group.error, group.whole, group.complete_from)
            for member in members:
                builder.add(member, grouped.read_at)
            found.append(builder.build_group())
    scanned = sum(group.count for group in found)
    refs = {ref for ref, _ in lists}
    return replace(
        grouped,
        groups=_most_jobs_first(found),
        scanned=scanned,
        total=max(scanned, sum(lists.values())),
        beyond=0,
        unread_lists=tuple(each for each in grouped.unread_lists if each.ref in refs),
    )


def _is_removed(member: GroupMember, removed: Mapping[DeadListRef, Collection[str]]) -> bool:
    return member.dead_letter.id in removed.get((member.ref, member.state), ())


def _most_jobs_first(groups: Iterable[ErrorGroup]) -> tuple[ErrorGroup, ...]:
    return tuple(sorted(groups, key=lambda group: -group.count))


@dataclass(slots=True)
class _GroupBuilder:
    """Collects the jobs of one group."""

    error: NormalizedError
    whole: bool = True
    complete_from: float | None = None
    first_at: float | None = None
    last_at: float | None = None
    trend: list[int] = field(default_factory=lambda: [0] * SLOTS)
    counts: Counter[tuple[QueueRef, str, State]] = field(default_factory=Counter)
    members: list[GroupMember] = field(default_factory=list)

    def add(self, member: GroupMember, now: float) -> None:
        at = member.dead_letter.at
        self.counts[member.ref, member.dead_letter.queue, member.state] += 1
        if at is not None:
            self.first_at = at if self.first_at is None else min(self.first_at, at)
            self.last_at = at if self.last_at is None else max(self.last_at, at)
            slot = int((now - at) // SLOT_S)
            if slot < SLOTS:
                self.trend[SLOTS - 1 - max(0, slot)] += 1
        self.members.append(member)

    def build_group(self) -> ErrorGroup:
        return ErrorGroup(
            error=self.error,
            count=len(self.members),
            first_at=self.first_at,
            last_at=self.last_at,
            trend=tuple(self.trend),
            queues=tuple(GroupQueue(*key, count) for key, count in self.counts.most_common()),
            members=tuple(sorted(self.members, key=lambda member: -(member.dead_letter.at or 0.0))),
            whole=self.whole,
            complete_from=self.complete_from,
        )
