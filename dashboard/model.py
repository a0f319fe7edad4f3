"""Frozen values that cross every boundary: between backends, collector, web and API.

None always means "unknown"; 0 and () are facts. Units are in the names: `_s` seconds, `_bytes`, `_ratio` 0..1,
`_per_min`; instants end in `_at` and are aware UTC datetimes, except inside a Snapshot, where they are seconds since
1970 so that a snapshot of a thousand queues stays cheap to decode.

Text that came from Redis is `str` with undecodable bytes as surrogate escapes, so that a name or id always leads back
to the very bytes of its key; `dashboard.web.formatting` makes it printable.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    """The eight states of a job, the same for every library; each backend tells its own word beside it."""

    WAITING = "waiting"  # may start now
    ACTIVE = "active"  # is being run
    SCHEDULED = "scheduled"  # starts at a set time
    RETRYING = "retrying"  # failed, runs again by itself
    BLOCKED = "blocked"  # waits for other jobs
    DEAD = "dead"  # dead letter: failed for good, only a person moves it
    COMPLETED = "completed"
    CANCELED = "canceled"


class Quality(StrEnum):
    """How far a rate can be trusted."""

    EXACT = "exact"  # every job was counted
    ESTIMATED = "estimated"  # derived from what the library keeps; see the reason
    UNKNOWN = "unknown"


class Capability(StrEnum):
    """What a library offers at all, asked before calling and before rendering."""

    QUEUE_PAUSE = "queue_pause"  # a single queue can be paused
    PRIORITIES = "priorities"
    PROGRESS = "progress"
    LOGS = "logs"
    RESULTS = "results"
    FLOWS = "flows"  # jobs with parents or children
    WORKERS = "workers"  # tells who consumes a queue, and lists them
    SCHEDULES = "schedules"  # jobs that are made again and again by the clock
    SEARCH = "search"  # jobs can be looked through by their text
    CLASSES = "classes"  # tells runs, failures and run times of each class of jobs


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all values here: immutable, keyword-only, cheap to encode.

    Those of which there are many have `gc=False`, as they are in no cycle: else each collection looks at them all. And
    `array_like=True`: published without the names of their fields, see collect/parts.py.
    """


class QueueRef(Value, frozen=True, kw_only=True, gc=False):
    """A queue's address: unique by (source, backend, name); `key` is the backend's own way to its Redis keys."""

    source: str
    backend: str
    name: str
    key: str
    shared: bool = False  # the one entry for sets that a library keeps for all queues together


class Counts(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """Jobs per state; None where the library has no such state or cannot count it in O(1)."""

    waiting: int | None = None
    active: int | None = None
    scheduled: int | None = None
    retrying: int | None = None
    blocked: int | None = None
    dead: int | None = None
    completed: int | None = None
    canceled: int | None = None

    def of(self, state: State) -> int | None:
        """The count of one state."""
        count: int | None = getattr(self, state.value)
        return count


class NativeCount(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """One of the library's own lists: its word, the state we file it under, how many jobs it holds."""

    native: str
    state: State
    count: int | None


class QueueStats(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """One queue at one moment. `error` says what is wrong with this row; its figures are then partly None."""

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
    depth: int | None = None  # jobs that may start now; equals counts.waiting unless the library tells more
    latency_s: float | None = None  # age of the oldest waiting job, as far as was looked; 0.0 when none waits
    overdue_s: float | None = None  # how late the earliest scheduled job is; 0.0 when none is
    active_age_s: float | None = None  # how long the oldest active job has been running; 0.0 when none is
    stalled: int | None = None  # active jobs whose lock or worker is gone
    workers: int | None = None  # processes that consume this queue
    throughput_per_min: float | None = None  # jobs finished (completed or dead) per minute, over 5 minutes
    failed_per_min: float | None = None
    error_ratio: float | None = None  # dead / finished over 5 minutes; None when nothing finished
    runtime_p50_s: float | None = None
    runtime_p95_s: float | None = None
    finished_15min: float | None = None  # jobs finished (completed or dead) within 15 minutes, as far as was looked
    failed_15min: float | None = None  # dead ones among them
    finished_ago_s: float | None = None  # since a job last finished, or was taken where ends leave no trace
    progress_known: bool = False  # a queue that stands could be told from one that is worked off, rates or not
    flow_quality: Quality = Quality.UNKNOWN  # of the rates and of error_ratio
    flow_reason: str | None = None  # why the rates are not exact, or not known
    unlisted_reason: str | None = None  # why a list of ended jobs says nothing: the library was told not to keep them
    # States of which there may be more jobs than their counts say; with WAITING that goes for `depth` too.
    at_least: tuple[State, ...] = ()
    notes: tuple[str, ...] = ()  # facts for the operator: "rate limited for 12 s", "global concurrency 5"
    read_only: str | None = None  # why nothing can be done to this queue and its jobs; None where it can
    error: str | None = None

    @property
    def ref(self) -> QueueRef:
        """The address of this queue."""
        return QueueRef(source=self.source, backend=self.backend, name=self.name, key=self.key, shared=self.shared)


def states_at_least(queues: Iterable[QueueStats]) -> tuple[State, ...]:
    """The states of which there may be more jobs than the sums over `queues` say; WAITING goes for `depth` too.

    A queue that cannot be read has jobs that no sum counts.
    """
    found: set[State] = set()
    queues = tuple(queues)
    together = with_shared_entry(queues)
    for queue in queues:
        found.update(queue.at_least)
        found.update(uncounted_states(queue, together))
    return tuple(state for state in State if state in found)


def with_shared_entry(queues: Iterable[QueueStats]) -> set[tuple[str, str]]:
    """(source, library) of those that have an entry for what all their queues have together."""
    return {(queue.source, queue.backend) for queue in queues if queue.shared}


def uncounted_states(queue: QueueStats, together: Container[tuple[str, str]]) -> tuple[State, ...]:
    """The states whose jobs are not counted as the queue cannot be read; () for one that can.

    `together` = as `with_shared_entry`: there the dead letters of the queues are in that entry.
    """
    if queue.error is None:
        return ()
    states = dict.fromkeys(entry.state for entry in queue.native) or _COUNTED
    apart = queue.shared or bool(queue.native) or (queue.source, queue.backend) not in together
    return tuple(state for state in states if queue.counts.of(state) is None and (apart or state is not State.DEAD))


# What is looked at most; of a queue of which nothing could be read it is not known which lists it has.
_COUNTED = (State.WAITING, State.ACTIVE, State.DEAD)


class QueueFlow(Value, frozen=True, kw_only=True, gc=False):
    """What ended in one queue between two looks: `completed` well, `dead` for good, over `span_s` seconds.

    `span_s` is the time really covered, which may be shorter than the time that passed (a trimmed stream).
    `runtimes_s` is a sample of at most 200 run times of jobs that ended, in no order.

    `hidden`: State.COMPLETED, State.DEAD or both, where within FLOW_WINDOW_S jobs ended so without a trace: what
    `completed` or `dead` counts is then a part of the truth, and no rate may be made of it. `ended` is what ended
    altogether where that is known nevertheless. `progressed`: whether jobs of the queue were worked off, where it takes
    more than these counts to tell; None where nothing tells. `unlisted`: states whose lists stay empty since the
    library was told to keep nothing. `wrong_look_back`: what the first look told of the time before it was not all that
    ended then, and is to be forgotten.
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
    """The answer of `Backend.flow`: one QueueFlow per queue that could be read.

    `together`: what ended in all those queues whose own `hidden` rates cannot be told apart, where the sum is known; no
    other queue's jobs are in it.
    """

    queues: tuple[QueueFlow, ...]
    together: QueueFlow | None = None


class RedisHealth(Value, frozen=True, kw_only=True):
    """What INFO tells of one Redis; None where it is silent or not permitted."""

    version: str | None = None
    flavour: str = "redis"  # redis, valkey, …
    role: str | None = None
    run_id: str | None = None
    uptime_s: int | None = None
    used_memory_bytes: int | None = None
    maxmemory_bytes: int | None = None  # None when unlimited: see memory_limited
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
    replicas: int | None = None  # that are connected to this server
    replica_lag_bytes: int | None = None  # of the slowest of them; None when there is none
    replica_link_up: bool | None = None  # None: no replica
    replica_link_down_s: int | None = None  # how long it has been cut off; 0 while up, None when it never was
    write_probe: str | None = None  # "ok", or the word with which a write of ours was refused; None = not tried
    keyspace_hit_ratio: float | None = None
    keys: int | None = None  # of the database in use
    persistence_ok: bool | None = None


class SourceStats(Value, frozen=True, kw_only=True):
    """One Redis as of a snapshot: is it there, how is it, what did reading it cost."""

    name: str
    address: str  # without credentials
    reachable: bool
    error: str | None = None
    hint: str | None = None
    unreachable_since: float | None = None
    health: RedisHealth = RedisHealth()
    libraries: tuple[str, ...] = ()  # backends with at least one queue here
    needs_noeviction: bool = False  # a library with queues here loses jobs when keys are evicted
    discovered: bool = False  # the first full look for queues is done
    search_progress: float | None = None  # 0..1, about how far that look has come; None when done, or not known
    together_per_min: float | None = None  # jobs finished per minute in queues whose own rates cannot be told apart
    commands: int = 0  # what the last sample cost
    round_trips: int = 0
    cost_s: float = 0.0
    problems: tuple[str, ...] = ()  # a backend that could not be read, and why


class Snapshot(Value, frozen=True, kw_only=True):
    """All queues of all sources at one moment, as published by the leader or sampled by a web process."""

    sampled_at: float  # seconds since 1970
    interval_s: float
    sequence: int  # rises with every sample of one sampler
    sampler: str  # who sampled: holder name of the leader, or of the web process
    epoch: int  # fencing epoch of the leader; 0 for a web process's own sample
    sources: tuple[SourceStats, ...]
    queues: tuple[QueueStats, ...]  # sorted by source, backend, name
    history_version: int = 0  # rises when the hour of history behind the sparklines has a new point
    fingerprint: str = ""  # of the settings by which it was taken: sources, libraries and rules; "" of one without any

    def find(self, source: str, backend: str, name: str) -> QueueStats | None:
        """The queue at that address; None when this snapshot has none."""
        for queue in self.queues:
            if queue.name == name and queue.backend == backend and queue.source == source:
                return queue
        return None


class Payload(Value, frozen=True, kw_only=True):
    """A value of the user's, decoded as far as is safe; never unpickled.

    kind: json (`value` is the decoded, redacted value), text, binary, opaque (pickled: `text` is a description made
    without running it), missing. `text` is always printable. `truncated` = more bytes are in Redis than were read.
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
    """One moment of a job's life; `event` is a short lower-case word or two, `detail` free text."""

    at: datetime
    event: str
    detail: str | None = None


class JobLink(Value, frozen=True, kw_only=True):
    """A parent or child: `ref` is None when its queue is not one we can address."""

    id: str
    queue: str
    ref: QueueRef | None = None
    state: State | None = None
    native_state: str | None = None


class Job(Value, frozen=True, kw_only=True):
    """One job. In lists the detail fields (payload, result, stack, logs, timeline, links) are empty.

    `problem` says in one line what is wrong with its data; the other fields then hold what could be read.
    """

    id: str
    source: str
    backend: str
    queue: str
    stamp: str | None = None  # differs once the job has ended anew; see backends/acting.py
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
    summary: str | None = None  # arguments in a line, where the library keeps them in plain text
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
    facts: tuple[tuple[str, str], ...] = ()  # what only this library knows: (label, text)
    problem: str | None = None
    abandoned: bool = False  # it stands in no list, or as active without a worker, so that nothing happens to it


class WorkerState(StrEnum):
    """What a worker process does, as far as its traces in Redis tell."""

    BUSY = "busy"
    IDLE = "idle"
    QUIET = "quiet"  # finishes what it runs and takes nothing new
    SUSPECT = "suspect"  # has not been heard of for longer than it should be silent
    DEAD = "dead"  # gone without leaving cleanly
    UNKNOWN = "unknown"


class Work(Value, frozen=True, kw_only=True):
    """One job that a worker runs now; `ref` is None when its queue is not one we can address."""

    job_id: str
    job_name: str | None = None
    queue: str | None = None
    ref: QueueRef | None = None
    started_at: datetime | None = None


class Worker(Value, frozen=True, kw_only=True):
    """One worker process, or one connection of it where the library tells no more. Unknown figures are None."""

    id: str  # the library's own name for it; unique per source and backend
    source: str
    backend: str
    state: WorkerState
    reason: str | None = None  # why it is suspect, dead or unknown
    hostname: str | None = None
    pid: int | None = None
    version: str | None = None  # of the library
    queues: tuple[str, ...] = ()  # names as QueueRef has them, in the order in which they are served
    concurrency: int | None = None
    busy: int | None = None
    work: tuple[Work, ...] = ()  # longest running first, at most 100
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    rss_bytes: int | None = None
    processed: int | None = None
    failed: int | None = None
    facts: tuple[tuple[str, str], ...] = ()  # what only this library knows: (label, text)
    problem: str | None = None  # what is wrong with its record


class Schedule(Value, frozen=True, kw_only=True):
    """One job that is made again and again. Unknown is None; `next_run_at` in the past means that it is late."""

    id: str  # the library's own name for it; unique per source and backend and queue
    source: str
    backend: str
    kind: str  # in the library's words: "job scheduler", "repeatable", "cron", "beat"
    name: str | None = None  # of the job it makes
    queue: str | None = None
    ref: QueueRef | None = None
    pattern: str | None = None  # as written: "0 3 * * *", "every 300 s"
    timezone: str | None = None
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    paused: bool | None = None
    runs: int | None = None  # made so far
    payload: Payload | None = None
    facts: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


class Searched(Value, frozen=True, kw_only=True):
    """A job as in a list, and the text of its payload and error that a search looks through, each cut at 8 KiB.

    `stack` is that of its last failure, both ends of a long one; None where there is none, or the library keeps none.
    """

    job: Job
    text: str
    stack: str | None = None


class Window(Value, frozen=True, kw_only=True):
    """A stretch of one list, to search in. `total` = length of the whole list; None when it cannot be counted.

    `at_least`: there are `total` jobs, and maybe more that are not listed. `problems`: as in JobPage.
    """

    rows: tuple[Searched, ...]
    total: int | None
    order: str
    at_least: bool = False
    problems: tuple[str, ...] = ()


class Sifted(Value, frozen=True, kw_only=True):
    """The jobs of a stretch of one list that may be what is looked for; the stretch ends before row `reached`.

    `more`: the list goes on there.
    """

    rows: tuple[Searched, ...]
    reached: int
    more: bool


class ClassStats(Value, frozen=True, kw_only=True):
    """What the jobs of one class did. Of attempts that went well: how long they ran, on average, and below which time
    half and 95 of 100 of them did; None when none did, or the library kept no times, or they ran too long for it.
    """

    name: str
    runs: int  # attempts, failed ones among them
    failed: int
    runtime_mean_s: float | None = None
    runtime_p50_below_s: float | None = None
    runtime_p95_below_s: float | None = None


class ClassBoard(Value, frozen=True, kw_only=True):
    """The classes of jobs that ran within `span_s` seconds, those that took most time first, the first few only.

    `scope` says in words whose jobs these are; `total` = how many classes there are. `cut`: the library keeps more than
    was read, so that sums may be too low.
    """

    classes: tuple[ClassStats, ...]
    total: int
    span_s: float
    scope: str
    cut: bool = False


class JobQuery(Value, frozen=True, kw_only=True):
    """Which page of which list: a state, optionally one of the library's own lists within it."""

    state: State
    native: str | None = None
    page: int = 1
    per_page: int = 50

    @property
    def offset(self) -> int:
        """Rows before this page."""
        return (self.page - 1) * self.per_page


class JobPage(Value, frozen=True, kw_only=True):
    """One page of jobs. `order` says how it is sorted, in words for the page's caption."""

    jobs: tuple[Job, ...]
    page: int
    per_page: int
    total: int | None
    order: str
    scanned: int | None = None
    truncated: bool = False
    at_least: bool = False  # there are `total` jobs, and maybe more that are not listed
    problems: tuple[str, ...] = ()  # which parts of the list could not be read, and why; their jobs are in no figure
