"""Workers, from the two traces that they leave in BullMQ: names of connections, and locks of running jobs.

No key lists workers, so this is all that is known: each named connection is a worker; each lock names its holder by an
id that no connection has. Both are matched by the workers' own names, which jobs record since 5.4, and where a single
connection and a single holder remain. Layout: bullmq `src/classes/worker.ts`, `src/commands/`, bull 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

from redis.exceptions import ResponseError

from ...clock import instant
from ...model import QueueRef, Worker, WorkerState
from ...sources.source import Source
from ...units import format_duration
from ..lua_reads import Scripts
from ..payloads.decoding import printable
from ..unreadable_data import decode_or, worker_row
from . import active_jobs, keys
from .active_jobs import ActiveJobs, RunningJob, oldest_first
from .client_list import WorkerConnection, WorkerConnections

MAX_WORKERS = 1000
PYTHON = "Python"
# A worker waits for jobs with commands that block for ten seconds at most; one that fetches none is silent for longer.
LONGEST_WAIT_S = 15

UNSEEN = "known only from the locks of its jobs: its connection has no name"
GONE = "holds job locks, but no connection has its name: it just died, or connects through a proxy that drops names"
NO_LIST = "known only from the locks of its jobs: this Redis user may not list connections"
SHARED = "running jobs; BullMQ does not record which ones"
MAYBE = "waiting for jobs, may also run some of the {count} in its queue: BullMQ does not record which worker has which"
LOST = "the lock of its jobs expired: it is not responding, or just died"
DIED = "the lock of its jobs expired, and it is no longer connected"
STANDS = "has not asked for a job for {idle}: paused or shutting down"


def list_workers(source: Source, scripts: Scripts, refs: Sequence[QueueRef]) -> list[Worker]:
    """Return the workers of `refs`, sorted by id, at most MAX_WORKERS; idle ones are left out first.

    Raises Forbidden if connections may not be listed and no job is running, so that the workers are unknown.
    Cost: 1 round trip if scripts are permitted, else 3.
    """
    if not refs:
        return []
    active, clients = active_jobs.read_active_jobs(source, scripts, refs)
    connections = WorkerConnections(clients, source.database)
    listed = not isinstance(clients, ResponseError)
    now = source.now_s()
    found = [
        worker
        for ref, jobs in zip(refs, active, strict=True)
        if (key := keys.key_of(ref)) is not None
        for worker in _workers_of_queue(_Queue(ref, jobs, connections.connections_of(key), now, listed=listed))
    ]
    if not listed and not found:
        raise source.forbidden_error(clients)
    found.sort(key=lambda worker: worker.state is WorkerState.IDLE)
    return sorted(found[:MAX_WORKERS], key=lambda worker: worker.id)


def _take_connections(
    by_name: dict[str | None, list[tuple[WorkerConnection, str]]], language: str
) -> list[tuple[WorkerConnection, str]]:
    """Remove the connections of one language from `by_name` and return them."""
    found = [pair for several in by_name.values() for pair in several if pair[1] == language]
    for name, several in list(by_name.items()):
        by_name[name] = [pair for pair in several if pair[1] != language]
    return found


def _workers_of_queue(queue: _Queue) -> Sequence[Worker]:
    """Return the workers of one queue; a row with the problem if they cannot be matched."""

    def unreadable(why: str) -> list[Worker]:
        ref, state = queue.ref, WorkerState.UNKNOWN
        queues = (ref.name,)
        return [Worker(id=ref.name, source=ref.source, backend=ref.backend, state=state, queues=queues, problem=why)]

    return decode_or(lambda: list(queue.list_workers()), unreadable)


class _Queue:
    """The workers of one queue."""

    def __init__(
        self,
        ref: QueueRef,
        active: ActiveJobs,
        connections: Sequence[tuple[WorkerConnection, str]],
        now: float,
        *,
        listed: bool,
    ) -> None:
        self.ref = ref
        self._active = active
        self._connections = connections
        self._now = now
        self._listed = listed

    def list_workers(self) -> Iterable[Worker]:
        """Yield one worker per connection, and one for each lock holder without a connection."""
        by_name: dict[str | None, list[tuple[WorkerConnection, str]]] = {}
        for connection, language in self._connections:
            by_name.setdefault(connection.worker_name, []).append((connection, language))
        for name, holders in sorted(self._jobs_by_holder().items(), key=lambda item: item[0] is None):
            connections = by_name.pop(name, [])
            if name is None and not connections:
                # Workers of the Python library do not record their names in the jobs they pick up.
                connections = _take_connections(by_name, PYTHON)
            yield from (
                self._workers_of_name(connections, holders)
                if connections
                else self._workers_without_connection(name, holders)
            )
        for several in by_name.values():
            yield from (self._idle_worker(connection, language) for connection, language in several)
        yield from self._workers_of_lost_jobs({connection.worker_name for connection, _ in self._connections})

    def _jobs_by_holder(self) -> dict[str | None, dict[str, list[RunningJob]]]:
        """Return the running jobs by the worker's name, if it has one, and by the holder of their lock."""
        found: dict[str | None, dict[str, list[RunningJob]]] = {}
        for job in self._active.jobs:
            if job.holder is not None:
                found.setdefault(job.worker, {}).setdefault(job.holder, []).append(job)
        return found

    def _workers_without_connection(
        self, name: str | None, holders: Mapping[str, list[RunningJob]]
    ) -> Iterable[Worker]:
        """Yield the workers that hold jobs but have the name of no known connection."""
        state, reason = WorkerState.BUSY, UNSEEN if self._listed else NO_LIST
        if name is not None and self._listed:
            state, reason = WorkerState.SUSPECT, GONE
        for holder, jobs in holders.items():
            yield self._worker_of_jobs(f"{self.ref.name}/{holder}", state, jobs, name=name, reason=reason)

    def _workers_of_name(
        self, connections: Sequence[tuple[WorkerConnection, str]], holders: Mapping[str, list[RunningJob]]
    ) -> Iterable[Worker]:
        """Yield the workers with one name, or without a name, of which `holders` hold jobs."""
        if len(connections) == len(holders) == 1:
            (jobs,) = holders.values()
            yield self._connected_worker(*connections[0], WorkerState.BUSY, jobs=jobs)
        else:
            count = sum(map(len, holders.values()))
            for connection, language in connections:
                # If there are as many holders as workers, or if a worker asks for no more jobs, it is running one.
                if len(holders) >= len(connections) or not connection.blocked:
                    yield self._connected_worker(connection, language, WorkerState.BUSY, reason=SHARED)
                else:
                    yield self._connected_worker(
                        connection, language, WorkerState.UNKNOWN, reason=MAYBE.format(count=count)
                    )

    def _idle_worker(self, connection: WorkerConnection, language: str) -> Worker:
        if connection.blocked or connection.idle_s <= LONGEST_WAIT_S:
            return self._connected_worker(connection, language, WorkerState.IDLE, jobs=())
        reason = STANDS.format(idle=format_duration(connection.idle_s))
        return self._connected_worker(connection, language, WorkerState.QUIET, jobs=(), reason=reason)

    def _workers_of_lost_jobs(self, names: set[str | None]) -> Iterable[Worker]:
        """Yield the workers whose jobs lost their lock; a job being picked up has no lock, but no start time either."""
        lost: dict[str | None, list[RunningJob]] = {}
        for job in self._active.jobs:
            if job.holder is None and job.work.started_at is not None:
                lost.setdefault(job.worker, []).append(job)
        for name, jobs in lost.items():
            there = name in names if name is not None else bool(names)
            yield self._worker_of_jobs(
                f"{self.ref.name}/{name or '?'} (lost)",
                WorkerState.SUSPECT if there or not self._listed else WorkerState.DEAD,
                jobs,
                name=name,
                reason=LOST if there or not self._listed else DIED,
            )

    def _connected_worker(
        self,
        connection: WorkerConnection,
        language: str,
        state: WorkerState,
        *,
        jobs: Sequence[RunningJob] | None = None,
        reason: str | None = None,
    ) -> Worker:
        # Connections through a socket file all have the same address.
        address = f"#{connection.client_id}" if connection.address.endswith(":0") else connection.address
        worker_id = printable(f"{connection.worker_name or self.ref.name}@{address}", 500)
        decode = partial(self._of_connection, worker_id, connection, language, state, jobs, reason)
        return worker_row(decode, worker_id, self.ref.source, self.ref.backend)

    def _of_connection(
        self,
        worker_id: str,
        connection: WorkerConnection,
        language: str,
        state: WorkerState,
        jobs: Sequence[RunningJob] | None,
        reason: str | None,
    ) -> Worker:
        name, now = connection.worker_name, self._now
        return self._build_worker(
            worker_id,
            state,
            jobs,
            reason=reason,
            hostname=printable(connection.host, 200) or None,
            started_at=instant(now - connection.age_s),
            heartbeat_at=instant(now - connection.idle_s) if connection.blocked else None,
            facts=(
                ("Name", name),
                ("Address", connection.address),
                ("Connection", connection.client_id),
                ("Client library", connection.library or language),
            ),
        )

    def _worker_of_jobs(
        self, worker_id: str, state: WorkerState, jobs: Sequence[RunningJob], *, name: str | None, reason: str
    ) -> Worker:
        """Return a worker that is known only from the jobs it holds."""
        decode = partial(self._build_worker, worker_id, state, jobs, facts=(("Name", name),), reason=reason)
        return worker_row(decode, worker_id, self.ref.source, self.ref.backend)

    def _build_worker(
        self,
        worker_id: str,
        state: WorkerState,
        jobs: Sequence[RunningJob] | None,
        *,
        facts: Iterable[tuple[str, str | None]],
        reason: str | None = None,
        hostname: str | None = None,
        started_at: datetime | None = None,
        heartbeat_at: datetime | None = None,
    ) -> Worker:
        """Return the worker; `jobs` None = what it runs is unknown."""
        return Worker(
            id=worker_id,
            source=self.ref.source,
            backend=self.ref.backend,
            state=state,
            reason=reason,
            hostname=hostname,
            queues=(self.ref.name,),
            busy=len(jobs) if jobs is not None and (self._active.is_complete or not jobs) else None,
            work=oldest_first(jobs or ()),
            started_at=started_at,
            heartbeat_at=heartbeat_at,
            facts=tuple((label, printable(text, 200)) for label, text in facts if text),
        )
