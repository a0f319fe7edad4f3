"""Queues: their addresses, counts and figures, and which of those are lower bounds."""

from __future__ import annotations

from collections.abc import Container, Iterable

from .base import State, Value
from .forecasts import QueueForecast
from .queue_flow import Quality


class QueueRef(Value, frozen=True, kw_only=True, gc=False):
    """The address of a queue, unique by (source, backend, name). `key` is how the backend finds its Redis keys."""

    source: str
    backend: str
    name: str
    key: str
    shared: bool = False  # the single entry for sets that a library stores for all queues together


class Counts(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """Number of jobs per state; None if the library does not have the state or cannot count it in O(1)."""

    waiting: int | None = None
    active: int | None = None
    scheduled: int | None = None
    retrying: int | None = None
    blocked: int | None = None
    dead: int | None = None
    completed: int | None = None
    canceled: int | None = None

    def of(self, state: State) -> int | None:
        """The number of jobs in one state."""
        count: int | None = getattr(self, state.value)
        return count


class NativeCount(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """One of the library's own lists: its native name, the state it maps to, and how many jobs it holds."""

    native: str
    state: State
    count: int | None


class RateLimit(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """A limit on how many jobs of a queue may start in a period, as counted now."""

    started: int  # jobs started in the current period
    resets_in_s: int  # in whole seconds, at least 1
    exhausted: bool  # no job starts until then; False: the limit itself is unknown


class QueueStats(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """The figures of one queue at one moment. If `error` says what could not be read, some of the figures are None."""

    source: str
    backend: str
    name: str
    key: str
    shared: bool = False
    prefix: str | None = None
    library_version: str | None = None
    paused: bool | None = None
    counts: Counts = Counts()
    native: tuple[NativeCount, ...] = ()  # in the order in which the library's own dashboard lists them
    depth: int | None = None  # jobs that can start now; equals counts.waiting unless the library reports more
    latency_s: float | None = None  # age of the oldest waiting job among those examined; 0.0 if none is waiting
    overdue_s: float | None = None  # how late the earliest scheduled job is; 0.0 if none is late
    active_age_s: float | None = None  # how long the oldest active job has been running; 0.0 if none is active
    stalled: int | None = None  # active jobs whose lock or worker no longer exists
    workers: int | None = None  # processes that consume this queue
    throughput_per_min: float | None = None  # jobs finished (completed or dead) per minute, over 5 minutes
    failed_per_min: float | None = None
    error_ratio: float | None = None  # dead / finished over 5 minutes; None if none finished
    runtime_p50_s: float | None = None
    runtime_p95_s: float | None = None
    finished_15min: float | None = None  # jobs finished (completed or dead) in 15 minutes, among those examined
    failed_15min: float | None = None  # the dead ones among them
    # What leaders have counted so far, see sampling/finished_totals.py; None in a sample that no leader took.
    finished_total: int | None = None
    failed_total: int | None = None
    finished_ago_s: float | None = None  # since a job last finished, or was picked up if finished jobs leave no trace
    progress_known: bool = False  # whether a stuck queue can be distinguished from a moving one, even without rates
    flow_quality: Quality = Quality.UNKNOWN  # of the rates and of error_ratio
    flow_reason: str | None = None  # why the rates are not exact, or unknown
    unlisted_reason: str | None = None  # why a list of finished jobs is empty: the library is set not to keep them
    forecast: QueueForecast | None = None  # None: no job was waiting, or the library has no such number
    # States that may hold more jobs than their counts show; WAITING applies to `depth` too.
    at_least: tuple[State, ...] = ()
    rate_limit: RateLimit | None = None  # the library's own limit, while it counts or holds jobs back
    notes: tuple[str, ...] = ()  # facts for the operator: "rate limited for 12 s", "global concurrency 5"
    read_only: str | None = None  # why this queue and its jobs cannot be changed; None if they can
    error: str | None = None

    @property
    def ref(self) -> QueueRef:
        """The address of this queue."""
        return QueueRef(source=self.source, backend=self.backend, name=self.name, key=self.key, shared=self.shared)


def states_at_least(queues: Iterable[QueueStats]) -> tuple[State, ...]:
    """The states that may hold more jobs than the sums over `queues` show; WAITING applies to `depth` too.

    Sums do not include the jobs of queues that cannot be read.
    """
    found: set[State] = set()
    queues = tuple(queues)
    together = with_shared_entry(queues)
    for queue in queues:
        found.update(queue.at_least)
        found.update(uncounted_states(queue, together))
    return tuple(state for state in State if state in found)


def with_shared_entry(queues: Iterable[QueueStats]) -> set[tuple[str, str]]:
    """The (source, library) pairs that have a shared entry for all their queues."""
    return {(queue.source, queue.backend) for queue in queues if queue.shared}


def uncounted_states(queue: QueueStats, together: Container[tuple[str, str]]) -> tuple[State, ...]:
    """The states whose jobs are not counted because the queue cannot be read; () if it can.

    `together`: as `with_shared_entry` returns it. In these pairs the shared entry holds the dead letters of all queues.
    """
    if queue.error is None:
        return ()
    states = dict.fromkeys(entry.state for entry in queue.native) or _COUNTED
    apart = queue.shared or bool(queue.native) or (queue.source, queue.backend) not in together
    return tuple(state for state in states if queue.counts.of(state) is None and (apart or state is not State.DEAD))


# The states that matter most: if nothing of a queue could be read, it is unknown which lists it has.
_COUNTED = (State.WAITING, State.ACTIVE, State.DEAD)
