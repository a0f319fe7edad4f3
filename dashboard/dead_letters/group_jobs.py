"""The current jobs of an error group, for actions on all of them. Known rows are not read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..backends.base import WINDOW_ROWS
from ..model import QueueRef, State
from .fingerprint import of_job
from .groups import GroupedDeadLetters
from .lists import BackendOf, DeadLetterList, ListUnreadable, Mark, read_marks, read_window
from .origin_queue import home_of

# A list that changes while it is read is scanned again for the jobs that were missed, at most this often.
TURNS = 3


@dataclass(frozen=True, slots=True)
class UnreadList:
    """A list that could not be read completely, so that jobs may be missing; `why` in one line."""

    queue: QueueRef
    why: str

    @property
    def line(self) -> str:
        """The queue and the reason, in one line."""
        return unread_line(self.queue.source, self.queue.backend, self.queue.name, self.why)


@dataclass(frozen=True, slots=True)
class GroupJob:
    """One job, the list that contains it, and its origin queue, if its data names one."""

    place: DeadLetterList
    mark: Mark
    origin: str | None


def unread_line(source: str, library: str, queue: str, why: str) -> str:
    """A queue that could not be read, in one line; `*` names all queues of a library."""
    return f"all {library} queues on {source}: {why}" if queue == "*" else f"{queue} ({library} on {source}): {why}"


# What is known of a job: its fingerprint and its origin queue.
_Known = tuple[str, str | None]


def list_group_jobs(
    lists: Sequence[DeadLetterList],
    backend_of: BackendOf,
    grouped: GroupedDeadLetters,
    fingerprint: str | None,
    most: int,
    rows: int,
) -> Iterator[GroupJob | UnreadList]:
    """The jobs of a group, or of all groups with None: at most `most`, from the first `rows` of each list.

    `grouped` contains the fingerprints of most of them. A list that cannot be read yields an UnreadList in its place.
    Cost: at most 2 round trips for each MAX_BATCH jobs, and for each WINDOW_ROWS of them that include one unknown to
    `grouped`.
    """
    known = _known_kinds(grouped)
    found = 0
    for place in lists:
        try:
            for one in _in_list(place, backend_of, known.get(place.at, {}), fingerprint, rows):
                if found >= most:
                    return
                found += 1
                yield one
        except ListUnreadable as exc:
            yield UnreadList(place.queue.ref, str(exc))


def _known_kinds(grouped: GroupedDeadLetters) -> dict[tuple[QueueRef, State], dict[Mark, _Known]]:
    known: dict[tuple[QueueRef, State], dict[Mark, _Known]] = {}
    for group in grouped.groups:
        for member in group.jobs:
            row = member.row
            known.setdefault((member.ref, member.state), {})[row.id, row.version] = (group.kind.id, row.origin)
    return known


def _in_list(
    place: DeadLetterList, backend_of: BackendOf, known: Mapping[Mark, _Known], fingerprint: str | None, rows: int
) -> Iterator[GroupJob]:
    """The jobs of one list, in its order, except that those that had to be read come last."""
    there = read_marks(place, backend_of, rows)
    for mark in there:
        kind, origin = known.get(mark, (None, None))
        if kind is not None and fingerprint in (None, kind):
            yield GroupJob(place, mark, origin)
    unknown = {mark: n // WINDOW_ROWS + 1 for n, mark in enumerate(there) if mark not in known}
    for _ in range(TURNS):
        for page in sorted(set(unknown.values())):
            for row in read_window(place, backend_of, page):
                mark = (row.job.id, row.job.version)
                if unknown.pop(mark, None) is None:
                    continue
                if fingerprint is None or of_job(row.job, row.stack).id == fingerprint:
                    origin = home_of(row.job, row.text, place.queue.name) if place.is_dlq else None
                    yield GroupJob(place, mark, origin)
        if not unknown:
            return
        again = {mark: n // WINDOW_ROWS + 1 for n, mark in enumerate(read_marks(place, backend_of, rows))}
        unknown = {mark: again[mark] for mark in unknown if mark in again}
