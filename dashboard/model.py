"""Immutable values shared by all parts of the program: backends, sampling, alerts, web pages and API.

None always means "unknown"; 0 and () are known values. Names carry their units: `_s` is seconds, `_bytes` is bytes,
`_ratio` is 0 to 1, `_per_min` is per minute. Instants end in `_at` and are aware UTC datetimes, except inside a
Snapshot, where they are seconds since 1970 so that a snapshot of a thousand queues stays cheap to decode.

Text from Redis is `str` with undecodable bytes as surrogate escapes, so that a name or id can always be converted back
to the exact bytes of its key. `dashboard.web.formatting` makes it printable.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    """The eight states of a job, the same for every library. Each backend also reports the library's own word."""

    WAITING = "waiting"  # can start now
    ACTIVE = "active"  # running
    SCHEDULED = "scheduled"  # starts at a set time
    RETRYING = "retrying"  # failed, will be retried automatically
    BLOCKED = "blocked"  # waiting for other jobs
    DEAD = "dead"  # dead letter: failed permanently, needs a user action to run again
    COMPLETED = "completed"
    CANCELED = "canceled"


class Quality(StrEnum):
    """How reliable a rate is."""

    EXACT = "exact"  # every job was counted
    ESTIMATED = "estimated"  # derived from what the library stores; see the reason
    UNKNOWN = "unknown"


class Capability(StrEnum):
    """A feature that a library supports. Check it before calling a backend and before rendering."""

    QUEUE_PAUSE = "queue_pause"  # a single queue can be paused
    PRIORITIES = "priorities"
    PROGRESS = "progress"
    LOGS = "logs"
    RESULTS = "results"
    FLOWS = "flows"  # jobs with parents or children
    WORKERS = "workers"  # workers can be listed, and counted per queue
    SCHEDULES = "schedules"  # schedules that create jobs at set times
    SEARCH = "search"  # jobs can be searched by their text
    CLASSES = "classes"  # runs, failures and run times are known per job class


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of all values here: immutable, keyword-only, cheap to encode.

    Classes with many instances set `gc=False`, as they are never part of a reference cycle; otherwise each garbage
    collection would traverse them all. `array_like=True` means that a value is published without its field names; see
    sampling/snapshot_parts.py.
    """


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
    finished_ago_s: float | None = None  # since a job last finished, or was picked up if finished jobs leave no trace
    progress_known: bool = False  # whether a stuck queue can be distinguished from a moving one, even without rates
    flow_quality: Quality = Quality.UNKNOWN  # of the rates and of error_ratio
    flow_reason: str | None = None  # why the rates are not exact, or unknown
    unlisted_reason: str | None = None  # why a list of finished jobs is empty: the library is set not to keep them
    # States that may hold more jobs than their counts show; WAITING applies to `depth` too.
    at_least: tuple[State, ...] = ()
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


class QueueFlow(Value, frozen=True, kw_only=True, gc=False):
    """The jobs of one queue that finished between two samples: `completed` and permanently failed (`dead`).

    `span_s`: the seconds actually covered, which can be less than the time that passed (a trimmed stream).
    `runtimes_s`: at most 200 run times of finished jobs, in no particular order.
    `hidden`: State.COMPLETED, State.DEAD or both, if jobs reached that state within FLOW_WINDOW_S without leaving a
    trace. `completed` or `dead` is then only part of the number, and no rate can be computed from it.
    `ended`: the total number of finished jobs, if it is known in spite of that.
    `progressed`: whether jobs of the queue were processed, if these counts do not show it; None if unknown.
    `unlisted`: states whose lists stay empty because the library is set not to keep such jobs.
    `wrong_look_back`: the first sample did not report all jobs that finished before it; its figures about that time
    must be discarded.
    """

    key: str
    completed: int
    dead: int
    span_s: float
    quality: Quality
    reason: str | None = None
    runtimes_s: tuple[float, ...] = ()
    hidden: tuple[State, ...] = ()
    ended: int | None = None
    progressed: bool | None = None
    unlisted: tuple[State, ...] = ()
    unlisted_reason: str | None = None
    wrong_look_back: bool = False


class FlowDelta(Value, frozen=True, kw_only=True):
    """The result of `Backend.read_flow`: one QueueFlow per queue that could be read.

    `together`: the jobs that finished in exactly those queues whose own rates are `hidden` and cannot be separated, if
    their sum is known.
    """

    queues: tuple[QueueFlow, ...]
    together: QueueFlow | None = None


class RedisHealth(Value, frozen=True, kw_only=True):
    """The figures that INFO reports for one Redis; None if INFO omits them or is not permitted."""

    version: str | None = None
    flavour: str = "redis"  # redis, valkey, …
    role: str | None = None
    run_id: str | None = None
    uptime_s: int | None = None
    used_memory_bytes: int | None = None
    maxmemory_bytes: int | None = None  # None if unlimited or unknown: see memory_limited
    memory_limited: bool | None = None
    memory_ratio: float | None = None  # (used - not counted for eviction) / maxmemory; None without a maxmemory
    eviction_policy: str | None = None
    clients: int | None = None
    max_clients: int | None = None
    blocked_clients: int | None = None
    ops_per_s: int | None = None
    evicted_keys: int | None = None
    rejected_connections: int | None = None
    fragmentation_ratio: float | None = None
    allocator_frag_ratio: float | None = None
    allocator_frag_bytes: int | None = None
    replicas: int | None = None  # connected to this server
    replica_lag_bytes: int | None = None  # of the slowest replica; None if there is none
    replica_link_up: bool | None = None  # None: this server is not a replica
    replica_link_down_s: int | None = None  # seconds since the link went down; 0 while up, None if it never was up
    write_probe: str | None = None  # "ok", or the error code of our refused test write; None: not tried
    keyspace_hit_ratio: float | None = None
    keys: int | None = None  # of the database in use
    persistence_ok: bool | None = None


class SourceStats(Value, frozen=True, kw_only=True):
    """One Redis as of a snapshot: whether it is reachable, its health, and the cost of sampling it."""

    name: str
    address: str  # without credentials
    reachable: bool
    error: str | None = None
    hint: str | None = None
    unreachable_since: float | None = None
    health: RedisHealth = RedisHealth()
    libraries: tuple[str, ...] = ()  # backends with at least one queue here
    needs_noeviction: bool = False  # a library with queues here loses jobs if keys are evicted
    discovered: bool = False  # the first full scan for queues is complete
    search_progress: float | None = None  # approximate progress of that scan, 0 to 1; None if complete or unknown
    together_per_min: float | None = None  # jobs finished per minute in queues whose own rates cannot be separated
    commands: int = 0  # the cost of the last sample
    round_trips: int = 0
    cost_s: float = 0.0
    problems: tuple[str, ...] = ()  # the backends that could not be read, and why


class Snapshot(Value, frozen=True, kw_only=True):
    """All queues of all sources at one moment, published by the leader or sampled by a web process itself."""

    sampled_at: float  # seconds since 1970
    interval_s: float
    sequence: int  # increases with every sample of one sampler
    sampler: str  # the process that sampled: holder name of the leader, or of the web process
    epoch: int  # fencing epoch of the leader; 0 for a web process's own sample
    sources: tuple[SourceStats, ...]
    queues: tuple[QueueStats, ...]  # sorted by source, backend, name
    history_version: int = 0  # increases when the hour of history behind the sparklines gets a new point
    fingerprint: str = ""  # of the settings it was sampled with (sources, libraries, rules); "" if it has none

    def find(self, source: str, backend: str, name: str) -> QueueStats | None:
        """The queue with this address; None if the snapshot has no such queue."""
        for queue in self.queues:
            if queue.name == name and queue.backend == backend and queue.source == source:
                return queue
        return None


class Payload(Value, frozen=True, kw_only=True):
    """A value that the app stored, decoded as far as is safe; never unpickled.

    `kind`: json (`value` is the decoded, redacted value), text, binary, opaque (pickled: `text` is a description made
    without unpickling it) or missing. `text` is always printable. `truncated`: Redis holds more bytes than were read.
    """

    kind: str
    text: str
    value: Any = None
    size_bytes: int | None = None
    truncated: bool = False
    note: str | None = None


class JobError(Value, frozen=True, kw_only=True):
    """The last failure of a job."""

    class_name: str | None = None
    message: str | None = None
    stack: str | None = None


class TimelineEvent(Value, frozen=True, kw_only=True):
    """One event in the life of a job. `event` is one or two lower-case words, `detail` is free text."""

    at: datetime
    event: str
    detail: str | None = None


class JobLink(Value, frozen=True, kw_only=True):
    """A parent or child of a job. `ref` is None if its queue is not one that Queuedeck can address."""

    id: str
    queue: str
    ref: QueueRef | None = None
    state: State | None = None
    native_state: str | None = None


class Job(Value, frozen=True, kw_only=True):
    """One job. In lists the detail fields (payload, result, stack, logs, timeline, links) are empty.

    `problem` says in one line what is wrong with the data of the job; the other fields then hold what could be read.
    """

    id: str
    source: str
    backend: str
    queue: str
    version: str | None = None  # changes whenever the job finishes again; see backends/actions.py
    name: str | None = None
    state: State | None = None  # None: in none of the library's lists
    native_state: str | None = None
    enqueued_at: datetime | None = None
    scheduled_for: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int | None = None
    max_attempts: int | None = None
    priority: int | None = None
    progress: Any = None
    worker: str | None = None
    summary: str | None = None  # arguments in one line, if the library stores them as plain text
    error: JobError | None = None
    payload: Payload | None = None
    options: Payload | None = None
    result: Payload | None = None
    meta: Payload | None = None
    timeline: tuple[TimelineEvent, ...] = ()
    parent: JobLink | None = None
    children: tuple[JobLink, ...] = ()
    children_total: int | None = None
    logs: tuple[str, ...] = ()
    logs_total: int | None = None
    facts: tuple[tuple[str, str], ...] = ()  # details specific to this library: (label, text)
    problem: str | None = None
    abandoned: bool = False  # not in any list, or active without a worker: it will not continue


class WorkerState(StrEnum):
    """What a worker process is doing, derived from what it writes to Redis."""

    BUSY = "busy"
    IDLE = "idle"
    QUIET = "quiet"  # finishes its running jobs and fetches no new ones
    SUSPECT = "suspect"  # its heartbeat is overdue
    DEAD = "dead"  # ended without shutting down cleanly
    UNKNOWN = "unknown"


class Work(Value, frozen=True, kw_only=True):
    """One job that a worker is running. `ref` is None if its queue is not one that Queuedeck can address."""

    job_id: str
    job_name: str | None = None
    queue: str | None = None
    ref: QueueRef | None = None
    started_at: datetime | None = None


class Worker(Value, frozen=True, kw_only=True):
    """One worker process, or one of its connections if the library reports no more. Unknown figures are None."""

    id: str  # the library's own name for it; unique per source and backend
    source: str
    backend: str
    state: WorkerState
    reason: str | None = None  # why it is suspect, dead or unknown
    hostname: str | None = None
    pid: int | None = None
    version: str | None = None  # of the library
    queues: tuple[str, ...] = ()  # names as in QueueRef, in the order in which they are served
    concurrency: int | None = None
    busy: int | None = None
    work: tuple[Work, ...] = ()  # longest running first, at most 100
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    rss_bytes: int | None = None
    processed: int | None = None
    failed: int | None = None
    facts: tuple[tuple[str, str], ...] = ()  # details specific to this library: (label, text)
    problem: str | None = None  # what is wrong with its record


class Schedule(Value, frozen=True, kw_only=True):
    """A schedule that creates jobs at set times. Unknown is None; a `next_run_at` in the past means that it is late."""

    id: str  # the library's own name for it; unique per source, backend and queue
    source: str
    backend: str
    kind: str  # in the library's words: "job scheduler", "repeatable", "cron", "beat"
    name: str | None = None  # of the job it creates
    queue: str | None = None
    ref: QueueRef | None = None
    pattern: str | None = None  # as written: "0 3 * * *", "every 300 s"
    timezone: str | None = None
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    paused: bool | None = None
    runs: int | None = None  # so far
    payload: Payload | None = None
    facts: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


class Searched(Value, frozen=True, kw_only=True):
    """A job as in a list, with the searchable `text` of its payload and error, each cut at 8 KiB.

    `stack`: the stack of its last failure, both ends of a long one; None if there is none or the library stores none.
    """

    job: Job
    text: str
    stack: str | None = None


class Window(Value, frozen=True, kw_only=True):
    """A range of one list, to search in. `total`: the length of the whole list; None if it cannot be counted.

    `at_least`: there are `total` jobs and possibly more that are not listed. `problems`: as in JobPage.
    """

    rows: tuple[Searched, ...]
    total: int | None
    order: str
    at_least: bool = False
    problems: tuple[str, ...] = ()


class Sifted(Value, frozen=True, kw_only=True):
    """The jobs in a range of one list that may match a search. The range ends before row `reached`.

    `more`: the list continues there.
    """

    rows: tuple[Searched, ...]
    reached: int
    more: bool


class ClassStats(Value, frozen=True, kw_only=True):
    """The attempts of one job class, with the mean run time of the successful ones and upper bounds of the percentiles.

    A run time is None if no attempt succeeded, or if the library stored no times or the times exceed its range.
    """

    name: str
    runs: int  # attempts, including failed ones
    failed: int
    runtime_mean_s: float | None = None
    runtime_p50_below_s: float | None = None
    runtime_p95_below_s: float | None = None


class ClassBoard(Value, frozen=True, kw_only=True):
    """The top job classes of the last `span_s` seconds, by total run time.

    `scope`: a description of the jobs that are included. `total`: how many classes there are in all. `cut`: the library
    stores more than was read, so the sums may be too low.
    """

    classes: tuple[ClassStats, ...]
    total: int
    span_s: float
    scope: str
    cut: bool = False


class JobQuery(Value, frozen=True, kw_only=True):
    """A page of a list of jobs: a state, and optionally one of the library's own lists within it."""

    state: State
    native: str | None = None
    page: int = 1
    per_page: int = 50

    @property
    def offset(self) -> int:
        """The number of rows before this page."""
        return (self.page - 1) * self.per_page


class JobPage(Value, frozen=True, kw_only=True):
    """One page of jobs. `order` describes its sort order, for the caption of the page."""

    jobs: tuple[Job, ...]
    page: int
    per_page: int
    total: int | None
    order: str
    scanned: int | None = None
    truncated: bool = False
    at_least: bool = False  # there are `total` jobs and possibly more that are not listed
    problems: tuple[str, ...] = ()  # the parts of the list that could not be read, and why; no figure counts their jobs
