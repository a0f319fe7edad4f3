"""The lists that contain dead letters: dead jobs, and waiting jobs of dead-letter queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from ..backends.actions import MAX_BATCH, JobRef
from ..backends.base import WINDOW_ROWS, Backend
from ..backends.unreadable_data import data_errors_foreseen
from ..errors import QueuedeckError
from ..globs import glob_matches
from ..model import Capability, JobQuery, QueueRef, QueueStats, Searched, State

BackendOf = Callable[[str, str], Backend]
# A job by its id and the stamp with which it died; a row read for a mark stays valid.
Mark = tuple[str, str | None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeadLetterList:
    """One list of dead letters; `count` = jobs in it as of the newest snapshot; `at_least` = there may be more."""

    queue: QueueStats
    state: State
    count: int

    @property
    def key(self) -> tuple[str, str, str, State]:
        """A unique key of the list."""
        return (self.queue.source, self.queue.backend, self.queue.key, self.state)

    @property
    def at(self) -> tuple[QueueRef, State]:
        """The list as an action identifies it."""
        return (self.queue.ref, self.state)

    @property
    def at_least(self) -> bool:
        """Whether there may be more jobs than `count` that are not listed."""
        return self.state in self.queue.at_least

    @property
    def is_dlq(self) -> bool:
        """Whether its jobs wait in a dead-letter queue."""
        return self.state is State.WAITING


class ListUnreadable(Exception):
    """A list could not be read; the message is the reason, in one line."""


def is_dlq(queue: QueueStats, dlq_globs: Sequence[str]) -> bool:
    """Whether the name of the queue marks it as a dead-letter queue: its waiting jobs are then dead letters."""
    return not queue.shared and any(glob_matches(glob, queue.name) for glob in dlq_globs)


def find_lists(queues: Sequence[QueueStats], backend_of: BackendOf, dlq_globs: Sequence[str]) -> list[DeadLetterList]:
    """The lists that are not empty, longest first."""
    found = [
        DeadLetterList(queue, state, count)
        for queue, state in _wanted_lists(queues, backend_of, dlq_globs)
        if (count := queue.counts.of(state))
    ]
    return sorted(found, key=lambda place: -place.count)


def find_uncounted(
    queues: Sequence[QueueStats], backend_of: BackendOf, dlq_globs: Sequence[str]
) -> list[tuple[QueueStats, str]]:
    """The queues for which it is unknown whether they have dead letters, and why."""
    together = {(queue.source, queue.backend) for queue in queues if queue.shared}
    return [
        (queue, queue.error)
        for queue, state in _wanted_lists(queues, backend_of, dlq_globs)
        if queue.error is not None
        and queue.counts.of(state) is None
        # With such a library, the shared entry of all queues contains the dead jobs of each.
        and not (state is State.DEAD and not queue.shared and (queue.source, queue.backend) in together)
    ]


def _wanted_lists(
    queues: Sequence[QueueStats], backend_of: BackendOf, dlq_globs: Sequence[str]
) -> Iterator[tuple[QueueStats, State]]:
    for queue in queues:
        states = backend_of(queue.source, queue.backend).states
        if State.DEAD in states:
            yield queue, State.DEAD
        if State.WAITING in states and is_dlq(queue, dlq_globs):
            yield queue, State.WAITING


def read_marks(place: DeadLetterList, backend_of: BackendOf, most: int) -> list[Mark]:
    """The first `most` jobs of a list by id and stamp, without duplicates, in the order of the list.

    Raises ListUnreadable. Cost: at most 2 round trips for each MAX_BATCH jobs.
    """
    found: dict[Mark, None] = {}
    for page in range(1, -(-most // MAX_BATCH) + 1):
        query = JobQuery(state=place.state, page=page, per_page=min(most, MAX_BATCH))
        job_refs = _ask_list(place, backend_of, partial(_read_job_refs, place, query))
        found.update(((job_ref.id, job_ref.version), None) for job_ref in job_refs)
        if len(job_refs) < query.per_page:
            break
    return list(found)


def _read_job_refs(place: DeadLetterList, query: JobQuery, backend: Backend) -> Sequence[JobRef]:
    return backend.list_job_refs(place.queue.ref, query)


def read_window(
    place: DeadLetterList, backend_of: BackendOf, page: int, per_page: int = WINDOW_ROWS
) -> Sequence[Searched]:
    """The rows of a page, newest first if the library's list is; each job gets the state of `place`.

    Raises ListUnreadable. Cost: at most 2 round trips.
    """
    query = JobQuery(state=place.state, page=page, per_page=per_page)

    def ask(backend: Backend) -> Sequence[Searched]:
        if Capability.SEARCH in backend.capabilities:
            return backend.search_page(place.queue.ref, query).rows
        return [Searched(job=job, text="") for job in backend.list_jobs(place.queue.ref, query).jobs]

    return [
        row
        if row.job.state is place.state
        else msgspec.structs.replace(row, job=msgspec.structs.replace(row.job, state=place.state))
        for row in _ask_list(place, backend_of, ask)
    ]


def _ask_list(place: DeadLetterList, backend_of: BackendOf, ask: Callable[[Backend], Sequence[T]]) -> Sequence[T]:
    queue = place.queue
    try:
        with data_errors_foreseen(f"the {place.state.value} jobs", queue.name):
            return ask(backend_of(queue.source, queue.backend))
    except QueuedeckError as exc:
        raise ListUnreadable(exc.message) from exc
