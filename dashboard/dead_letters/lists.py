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
from ..model import (
    Capability,
    JobQuery,
    QueueRef,
    QueueStats,
    Searched,
    State,
    uncounted_states,
    with_shared_entry,
)

BackendOf = Callable[[str, str], Backend]
# A list as an action identifies it: the queue whose list it is, and the state of its jobs.
DeadListRef = tuple[QueueRef, State]
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
    def list_ref(self) -> DeadListRef:
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


@dataclass(frozen=True, slots=True)
class UnreadList:
    """A list that could not be read completely, so that jobs may be missing; `why` in one line."""

    ref: QueueRef
    why: str

    @property
    def line(self) -> str:
        """The queue and the reason, in one line."""
        return unread_line(self.ref.source, self.ref.backend, self.ref.name, self.why)


class ListUnreadable(Exception):
    """A list could not be read; the message is the reason, in one line."""


def unread_line(source: str, library: str, queue: str, why: str) -> str:
    """A queue that could not be read, in one line; `*` names all queues of a library."""
    return f"all {library} queues on {source}: {why}" if queue == "*" else f"{queue} ({library} on {source}): {why}"


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
    return sorted(found, key=lambda dead_list: -dead_list.count)


def find_uncounted(queues: Sequence[QueueStats], backend_of: BackendOf, dlq_globs: Sequence[str]) -> list[UnreadList]:
    """The queues for which it is unknown whether they have dead letters, and why."""
    together = with_shared_entry(queues)
    return [
        UnreadList(queue.ref, queue.error)
        for queue, state in _wanted_lists(queues, backend_of, dlq_globs)
        if queue.error is not None and state in uncounted_states(queue, together)
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


def read_job_refs(dead_list: DeadLetterList, backend_of: BackendOf, most: int) -> list[JobRef]:
    """The first `most` jobs of a list, without duplicates, in the order of the list.

    Raises ListUnreadable. Cost: at most 2 round trips for each MAX_BATCH jobs.
    """
    found: dict[JobRef, None] = {}
    for page in range(1, -(-most // MAX_BATCH) + 1):
        query = JobQuery(state=dead_list.state, page=page, per_page=min(most, MAX_BATCH))
        job_refs = _ask_list(dead_list, backend_of, partial(_list_job_refs, dead_list, query))
        found.update(dict.fromkeys(job_refs))
        if len(job_refs) < query.per_page:
            break
    return list(found)


def _list_job_refs(dead_list: DeadLetterList, query: JobQuery, backend: Backend) -> Sequence[JobRef]:
    return backend.list_job_refs(dead_list.queue.ref, query)


def read_window(
    dead_list: DeadLetterList, backend_of: BackendOf, page: int, per_page: int = WINDOW_ROWS
) -> Sequence[Searched]:
    """The rows of a page, newest first if the library's list is; each job gets the state of `dead_list`.

    Raises ListUnreadable. Cost: at most 2 round trips.
    """
    query = JobQuery(state=dead_list.state, page=page, per_page=per_page)

    def ask(backend: Backend) -> Sequence[Searched]:
        if Capability.SEARCH in backend.capabilities:
            return backend.search_page(dead_list.queue.ref, query).rows
        return [Searched(job=job, text="") for job in backend.list_jobs(dead_list.queue.ref, query).jobs]

    return [
        row
        if row.job.state is dead_list.state
        else msgspec.structs.replace(row, job=msgspec.structs.replace(row.job, state=dead_list.state))
        for row in _ask_list(dead_list, backend_of, ask)
    ]


def _ask_list(dead_list: DeadLetterList, backend_of: BackendOf, ask: Callable[[Backend], Sequence[T]]) -> Sequence[T]:
    queue = dead_list.queue
    try:
        with data_errors_foreseen(f"the {dead_list.state.value} jobs", queue.name):
            return ask(backend_of(queue.source, queue.backend))
    except QueuedeckError as exc:
        raise ListUnreadable(exc.message) from exc
