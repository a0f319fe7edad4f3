"""The known dead letters of all lists. Each is read once, since a dead job with the same stamp does not change.

Each read fetches ids and stamps of the newest jobs of every list, which is cheap, drops jobs that no longer exist, and
reads as many new jobs as time allows; the next read continues from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from ..backends.actions import JobRef
from ..backends.base import WINDOW_ROWS, Backend
from ..backends.unreadable_data import decode_or
from ..clock import monotonic_s
from ..model import Job, QueueRef, QueueStats, Searched, State
from .fingerprint import NormalizedError, normalize_job_error
from .kept_arguments import KeptArgument, keep_arguments, read_arguments
from .lists import (
    BackendOf,
    DeadLetterList,
    ListUnreadable,
    UnreadList,
    find_lists,
    find_uncounted,
    read_job_refs,
    read_window,
)
from .origin_queue import find_origin_queue

ROWS_PER_LIST = 5000
# Of all lists together; about 1.5 kB each.
MAX_ROWS = 50_000
# A read blocks its viewer and the interpreter for at most this long, plus the step in progress.
SECONDS = 1.0
KEPT_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter. `at` = when it died, in seconds since 1970; None if the library records no time.

    `message` = its own error message, or what is wrong with its data: at most KEPT_MESSAGE characters, secrets masked.
    `kept_arguments` = its first arguments. `origin_queue` = of a job in a dead-letter queue, if its data names one.
    """

    error: NormalizedError
    id: str
    version: str | None
    queue: str
    name: str | None
    at: float | None
    attempts: int | None
    message: str | None
    kept_arguments: str = ""
    origin_queue: str | None = None

    @property
    def arguments(self) -> tuple[KeptArgument, ...]:
        """Its first arguments, shortened; () if none are known."""
        return read_arguments(self.kept_arguments)


@dataclass(slots=True)
class IndexedList:
    """One list with its known dead letters, of its newest jobs. `whole` = the list has no other jobs."""

    dead_list: DeadLetterList
    dead_letters: dict[JobRef, DeadLetter] = field(default_factory=dict)
    whole: bool = False
    read_at: float = 0.0  # monotonic
    _pages: list[int] = field(default_factory=list)  # those with unknown jobs, newest first

    def update_presence(self, job_refs: Sequence[JobRef]) -> None:
        """Record which jobs are in the list now."""
        known = self.dead_letters
        self.dead_letters = {job_ref: known[job_ref] for job_ref in job_refs if job_ref in known}
        self.whole = len(job_refs) < ROWS_PER_LIST and not self.dead_list.at_least
        self._pages = sorted({n // WINDOW_ROWS + 1 for n, job_ref in enumerate(job_refs) if job_ref not in known})
        self.read_at = monotonic_s()

    def forget_all(self) -> None:
        """Discard all dead letters, since the list cannot be read."""
        self.update_presence(())
        self.whole = False

    @property
    def next_page(self) -> int | None:
        """The page to read next; None if all dead letters are known."""
        return self._pages[0] if self._pages else None

    @property
    def unfinished(self) -> bool:
        """Whether it has jobs that the next read will add."""
        return self.next_page is not None or self.read_at == 0.0

    def add_page(self, rows: Sequence[Searched], errors: dict[str, NormalizedError], backend: Backend) -> None:
        """Add the rows of the next page; `errors` stores one NormalizedError for all dead letters that share it."""
        del self._pages[0]
        for row in rows:
            job_ref = JobRef(id=row.job.id, version=row.job.version)
            if job_ref not in self.dead_letters:
                self.dead_letters[job_ref] = decode_or(
                    partial(self._decode_dead_letter, row, errors, backend),
                    partial(self._unreadable_dead_letter, row.job, errors),
                )

    def _decode_dead_letter(self, row: Searched, errors: dict[str, NormalizedError], backend: Backend) -> DeadLetter:
        dead_list, error = self.dead_list, normalize_job_error(row.job, row.stack)
        origin_queue = find_origin_queue(row.job, row.text, dead_list.queue.name) if dead_list.is_dlq else None
        kept = keep_arguments(backend.arguments_of(row))
        return _build_dead_letter(errors.setdefault(error.fingerprint, error), row.job, origin_queue, kept)

    def _unreadable_dead_letter(self, job: Job, errors: dict[str, NormalizedError], why: str) -> DeadLetter:
        bare = Job(id=job.id, source=job.source, backend=job.backend, queue=job.queue, version=job.version, problem=why)
        error = normalize_job_error(bare, None)
        return _build_dead_letter(errors.setdefault(error.fingerprint, error), bare, None, "")

    @property
    def total(self) -> int:
        """The number of jobs in the list, as far as it is known."""
        known = len(self.dead_letters)
        return known if self.whole and not self._pages else max(self.dead_list.count, known)

    @property
    def oldest_at(self) -> float | None:
        """When the oldest known job died; None if no job has a time."""
        return min((each.at for each in self.dead_letters.values() if each.at is not None), default=None)

    @property
    def ref(self) -> QueueRef:
        """The queue whose list contains the jobs."""
        return self.dead_list.queue.ref

    @property
    def state(self) -> State:
        """The state of all of them."""
        return self.dead_list.state


class DeadLetterIndex:
    """The known dead letters of one process. Not thread-safe."""

    def __init__(self, backend_of: BackendOf, dlq_globs: Sequence[str]) -> None:
        self._backend_of = backend_of
        self._dlq_globs = tuple(dlq_globs)
        self._lists: dict[tuple[str, str, str, State], IndexedList] = {}

    def read_lists(self, queues: Sequence[QueueStats]) -> tuple[list[IndexedList], list[UnreadList]]:
        """The lists of `queues` with their known dead letters, after reading for at most SECONDS; and those not read.

        Never raises. Cost: at most 2 round trips for each MAX_BATCH ids, and for each WINDOW_ROWS new jobs.
        """
        ends = monotonic_s() + SECONDS
        unread_lists = find_uncounted(queues, self._backend_of, self._dlq_globs)
        current = find_lists(queues, self._backend_of, self._dlq_globs)
        lists = {dead_list.key: self._lists.get(dead_list.key) or IndexedList(dead_list) for dead_list in current}
        for dead_list in current:
            lists[dead_list.key].dead_list = dead_list
        self._lists = lists
        # Lists that had to wait last time come first; a list that is not reached keeps its known dead letters.
        waiting = sorted(lists.values(), key=lambda indexed: indexed.read_at)
        waiting = [indexed for indexed in waiting if self._read_presence(indexed, ends, unread_lists)]
        self._read_unknown(waiting, ends, unread_lists)
        return list(lists.values()), unread_lists

    def _read_presence(self, indexed: IndexedList, ends: float, unread_lists: list[UnreadList]) -> bool:
        if monotonic_s() > ends:
            return False
        try:
            job_refs = read_job_refs(indexed.dead_list, self._backend_of, ROWS_PER_LIST)
            if not job_refs:
                read_window(indexed.dead_list, self._backend_of, 1)  # raises if the list cannot be read
            indexed.update_presence(job_refs)
        except ListUnreadable as exc:
            unread_lists.append(UnreadList(indexed.ref, str(exc)))
            indexed.forget_all()
            return False
        return True

    def _read_unknown(self, waiting: list[IndexedList], ends: float, unread_lists: list[UnreadList]) -> None:
        """Read unknown jobs, one page of each list in turn, so that a long list does not hide the others."""
        known = [dead_letter for indexed in self._lists.values() for dead_letter in indexed.dead_letters.values()]
        errors = {dead_letter.error.fingerprint: dead_letter.error for dead_letter in known}
        count = len(known)
        while waiting:
            for indexed in tuple(waiting):
                page = indexed.next_page
                if page is None:
                    waiting.remove(indexed)
                    continue
                if monotonic_s() > ends or count >= MAX_ROWS:
                    return
                try:
                    rows = read_window(indexed.dead_list, self._backend_of, page)
                except ListUnreadable as exc:
                    unread_lists.append(UnreadList(indexed.ref, str(exc)))
                    waiting.remove(indexed)
                    continue
                before = len(indexed.dead_letters)
                indexed.add_page(rows, errors, self._backend_of(indexed.ref.source, indexed.ref.backend))
                count += len(indexed.dead_letters) - before


def died_at(job: Job) -> float | None:
    """When a dead letter died, in seconds since 1970; None if the library records no time.

    A job that waits in a dead-letter queue died when it was added there.
    """
    at = job.enqueued_at if job.state is State.WAITING else job.finished_at
    return at.timestamp() if at is not None else None


def _build_dead_letter(error: NormalizedError, job: Job, origin_queue: str | None, kept_arguments: str) -> DeadLetter:
    message = job.error.message if job.error else job.problem
    return DeadLetter(
        error=error,
        id=job.id,
        version=job.version,
        queue=job.queue,
        name=job.name,
        at=died_at(job),
        attempts=job.attempts,
        message=message[:KEPT_MESSAGE] if message else None,
        kept_arguments=kept_arguments,
        origin_queue=origin_queue,
    )
