"""The known rows of all lists. Each row is read once, since a dead job with the same stamp does not change.

Each read fetches the marks of the newest jobs of every list, which is cheap, drops jobs that no longer exist, and reads
as many new rows as time allows; the next read continues from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from ..backends.base import WINDOW_ROWS
from ..backends.unreadable_data import decode_or
from ..clock import monotonic_s
from ..model import Job, QueueRef, QueueStats, Searched, State
from .fingerprint import Fingerprint, of_job
from .lists import BackendOf, DeadLetterList, ListUnreadable, Mark, find_lists, find_uncounted, read_marks, read_window
from .origin_queue import home_of

ROWS_PER_LIST = 5000
# Of all lists together; about 1 kB each.
MAX_ROWS = 50_000
# A read blocks its viewer and the interpreter for at most this long, plus the step in progress.
SECONDS = 1.0
KEPT_TEXT = 300


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter. `at` = when it died, in seconds since 1970; None if the library records no time.

    `origin` = the origin queue of a job in a dead-letter queue, if its data names one.
    """

    kind: Fingerprint
    id: str
    version: str | None
    queue: str
    name: str | None
    at: float | None
    attempts: int | None
    text: str | None
    origin: str | None = None


@dataclass(slots=True)
class IndexedList:
    """One list: the known rows of its newest jobs by mark. `whole` = the list has no other jobs."""

    place: DeadLetterList
    rows: dict[Mark, DeadLetter] = field(default_factory=dict)
    whole: bool = False
    looked_at: float = 0.0  # monotonic
    _pages: list[int] = field(default_factory=list)  # those with unknown jobs, newest first

    def update_presence(self, found: Sequence[Mark]) -> None:
        """Record which jobs are in the list now."""
        self.rows = {mark: row for mark in found if (row := self.rows.get(mark)) is not None}
        self.whole = len(found) < ROWS_PER_LIST and not self.place.at_least
        self._pages = sorted({n // WINDOW_ROWS + 1 for n, mark in enumerate(found) if mark not in self.rows})
        self.looked_at = monotonic_s()

    def forget_all(self) -> None:
        """Discard all rows, since the list cannot be read."""
        self.update_presence(())
        self.whole = False

    @property
    def next_page(self) -> int | None:
        """The page to read next; None if all rows are known."""
        return self._pages[0] if self._pages else None

    def learn_rows(self, rows: Sequence[Searched], kinds: dict[str, Fingerprint]) -> None:
        """Add the rows of the next page; `kinds` stores one Fingerprint for all rows that share it."""
        del self._pages[0]
        for found in rows:
            job = found.job
            mark = (job.id, job.version)
            if mark not in self.rows:
                self.rows[mark] = decode_or(
                    partial(self._dead_letter_of, found, kinds), partial(self._unreadable_row, job, kinds)
                )

    def _dead_letter_of(self, found: Searched, kinds: dict[str, Fingerprint]) -> DeadLetter:
        kind = of_job(found.job, found.stack)
        origin = home_of(found.job, found.text, self.place.queue.name) if self.place.is_dlq else None
        return _build_dead_letter(kinds.setdefault(kind.id, kind), found.job, origin)

    def _unreadable_row(self, job: Job, kinds: dict[str, Fingerprint], why: str) -> DeadLetter:
        bare = Job(id=job.id, source=job.source, backend=job.backend, queue=job.queue, version=job.version, problem=why)
        kind = of_job(bare, None)
        return _build_dead_letter(kinds.setdefault(kind.id, kind), bare, None)

    @property
    def total(self) -> int:
        """The number of jobs in the list, as far as it is known."""
        return len(self.rows) if self.whole and not self._pages else max(self.place.count, len(self.rows))

    @property
    def ref(self) -> QueueRef:
        """The queue whose list contains the jobs."""
        return self.place.queue.ref

    @property
    def state(self) -> State:
        """The state of all of them."""
        return self.place.state


Problem = tuple[str, str, str, str]  # source, library, queue, why it could not be read


class DeadLetterIndex:
    """The known rows of one process. Not thread-safe."""

    def __init__(self, backend_of: BackendOf, dlq_globs: Sequence[str]) -> None:
        self._backend_of = backend_of
        self._dlq_globs = tuple(dlq_globs)
        self._lists: dict[tuple[str, str, str, State], IndexedList] = {}

    def read_lists(self, queues: Sequence[QueueStats]) -> tuple[list[IndexedList], list[Problem]]:
        """The dead-letter lists of `queues` with their known rows, after reading for at most SECONDS.

        Never raises. Cost: at most 2 round trips for each MAX_BATCH marks, and for each WINDOW_ROWS new rows.
        """
        ends = monotonic_s() + SECONDS
        problems = [
            (queue.source, queue.backend, queue.name, why)
            for queue, why in find_uncounted(queues, self._backend_of, self._dlq_globs)
        ]
        current = find_lists(queues, self._backend_of, self._dlq_globs)
        lists = {place.key: self._lists.get(place.key) or IndexedList(place) for place in current}
        for place in current:
            lists[place.key].place = place
        self._lists = lists
        # Lists that had to wait last time come first; a list that is not reached keeps its known rows.
        waiting = sorted(lists.values(), key=lambda listed: listed.looked_at)
        waiting = [listed for listed in waiting if self._read_marks(listed, ends, problems)]
        self._read_unknown(waiting, ends, problems)
        return list(lists.values()), problems

    def _read_marks(self, listed: IndexedList, ends: float, problems: list[Problem]) -> bool:
        if monotonic_s() > ends:
            return False
        try:
            found = read_marks(listed.place, self._backend_of, ROWS_PER_LIST)
            if not found:
                read_window(listed.place, self._backend_of, 1)  # raises if the list cannot be read
            listed.update_presence(found)
        except ListUnreadable as exc:
            problems.append(_build_problem(listed, exc))
            listed.forget_all()
            return False
        return True

    def _read_unknown(self, waiting: list[IndexedList], ends: float, problems: list[Problem]) -> None:
        """Read unknown rows, one page of each list in turn, so that a long list does not hide the others."""
        kinds = {row.kind.id: row.kind for listed in self._lists.values() for row in listed.rows.values()}
        known = sum(len(listed.rows) for listed in self._lists.values())
        while waiting:
            for listed in tuple(waiting):
                page = listed.next_page
                if page is None:
                    waiting.remove(listed)
                    continue
                if monotonic_s() > ends or known >= MAX_ROWS:
                    return
                try:
                    found = read_window(listed.place, self._backend_of, page)
                except ListUnreadable as exc:
                    problems.append(_build_problem(listed, exc))
                    waiting.remove(listed)
                    continue
                before = len(listed.rows)
                listed.learn_rows(found, kinds)
                known += len(listed.rows) - before


def _build_problem(listed: IndexedList, exc: ListUnreadable) -> Problem:
    queue = listed.place.queue
    return (queue.source, queue.backend, queue.name, str(exc))


def _build_dead_letter(kind: Fingerprint, job: Job, origin: str | None) -> DeadLetter:
    text = (job.error.message or job.error.class_name) if job.error else job.problem
    # A job that waits in a dead-letter queue died when it was added there.
    at = job.enqueued_at if job.state is State.WAITING else job.finished_at
    return DeadLetter(
        kind=kind,
        id=job.id,
        version=job.version,
        queue=job.queue,
        name=job.name,
        at=at.timestamp() if at is not None else None,
        attempts=job.attempts,
        text=text[:KEPT_TEXT] if text else None,
        origin=origin,
    )
