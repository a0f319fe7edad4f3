"""The table of metrics: name, unit, subject, and how the figure is read from one sample. Pure.

A figure is a number, None (unknown: it neither breaches nor recovers), or IDLE: not applicable now, which counts as
healthy (a queue without waiting jobs needs no worker).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, Literal, TypeAlias

import msgspec

from ...model import QueueStats, SourceStats, State
from ...units import format_figure
from ..evaluation.durations import QueueFacts, SourceFacts


class Idle(Enum):
    """The type of IDLE."""

    IDLE = "idle"


class AtLeast(float):
    """A lower bound: beyond a threshold it breaches, below one it is unknown."""

    __slots__ = ()


IDLE: Final = Idle.IDLE
Figure: TypeAlias = "float | Idle | None"
Unit = Literal["s", "count", "ratio", "per_min", "per_h", "bytes", "flag"]
Subject = Literal["queue", "library", "source", "channel", "checker"]
TakeQueue: TypeAlias = Callable[[QueueStats, QueueFacts, int], Figure]
TakeSource: TypeAlias = Callable[[SourceStats, SourceFacts], Figure]

FRAGMENTED_BYTES = 256 * 1024 * 1024
ERROR_MIN_EVENTS = 20


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. Exactly the `take_*` of its subject is set, unless the checker supplies the figure."""

    name: str
    unit: Unit
    subject: Subject
    meaning: str
    phrase: str  # a figure as messages show it: "{}" = the figure, "(s)" = plural; "" = a flag, which needs no figure
    bounded: bool = False  # a ratio that lies in 0..1
    several: bool = False  # it needs several samples, even if the last hour is known
    min_events: int = 0  # finished jobs that a figure needs, unless the rule sets another number
    unavailable: str | None = None  # why it is not available
    take_queue: TakeQueue | None = None
    take_source: TakeSource | None = None

    def fill_phrase(self, value: float) -> str:
        """A figure with the words of this metric: 80 dead letters per hour, 1 worker, full in 20 m; "" for a flag."""
        # The phrase of a rate contains "per hour" itself.
        figure = format_figure(value, "count" if self.unit in ("per_min", "per_h") else self.unit)
        return self.phrase.replace("(s)", "" if figure == "1" else "s").format(figure)


def _queue_depth(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return _count_figure(queue, State.WAITING, queue.depth)


def _count_figure(queue: QueueStats, state: State, figure: float | None) -> float | None:
    """A figure counted from jobs in `state`, which can be a lower bound."""
    return AtLeast(figure) if figure is not None and state in queue.at_least else figure


def _queue_latency(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return queue.latency_s  # also for a paused queue: its pause may have been forgotten


def _no_progress(_queue: QueueStats, facts: QueueFacts, _least: int) -> Figure:
    return facts.no_progress_s


def _queue_throughput(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return queue.throughput_per_min


def _error_ratio(queue: QueueStats, _facts: QueueFacts, least: int) -> Figure:
    finished, failed = queue.finished_15min, queue.failed_15min
    if finished is None or failed is None or finished < max(least, 1):
        return None
    return failed / finished


def _dead_letters(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return _count_figure(queue, State.DEAD, queue.counts.dead)


def _dead_growth(queue: QueueStats, facts: QueueFacts, _least: int) -> Figure:
    return _count_figure(queue, State.DEAD, facts.dead_growth_per_h)


def _active_age(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return queue.active_age_s


def _stalled_jobs(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return queue.stalled


def _overdue_s(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    # A paused queue does not start scheduled jobs either, which says nothing about its scheduler.
    return None if queue.paused and queue.overdue_s else queue.overdue_s


def _consumer_count(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    # Workers of a paused queue have nothing to do there; another rule covers that.
    if queue.depth == 0 or (queue.depth is not None and queue.paused):
        return IDLE
    return None if queue.depth is None else queue.workers


def _paused_s(_queue: QueueStats, facts: QueueFacts, _least: int) -> Figure:
    return facts.paused_s


def _unreachable_s(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.unreachable_s


def _writes_refused(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.writes_refused


def _memory_ratio(source: SourceStats, _facts: SourceFacts) -> Figure:
    return IDLE if source.health.memory_limited is False else source.health.memory_ratio


def _memory_full_in(source: SourceStats, facts: SourceFacts) -> Figure:
    ratio = source.health.memory_ratio
    if source.health.memory_limited is False or facts.never_full or (ratio is not None and ratio <= 0.5):
        return IDLE
    return facts.full_in_s


def _evicted_per_min(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.evicted_per_min


def _eviction_policy(source: SourceStats, _facts: SourceFacts) -> Figure:
    health = source.health
    if health.eviction_policy is None or health.memory_limited is None:
        return None
    return float(bool(source.needs_noeviction) and health.memory_limited and health.eviction_policy != "noeviction")


def _rejected_per_min(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.rejected_per_min


def _clients_ratio(source: SourceStats, _facts: SourceFacts) -> Figure:
    clients, most = source.health.clients, source.health.max_clients
    return None if clients is None or not most else clients / most


def _fragmentation_ratio(source: SourceStats, _facts: SourceFacts) -> Figure:
    wasted = source.health.allocator_frag_bytes
    if wasted is not None and wasted < FRAGMENTED_BYTES:
        return IDLE
    return None if wasted is None else source.health.allocator_frag_ratio


def _replica_lag(source: SourceStats, _facts: SourceFacts) -> Figure:
    if source.health.role == "master" and source.health.replicas == 0:
        return IDLE
    return source.health.replica_lag_bytes


def _replica_link(source: SourceStats, facts: SourceFacts) -> Figure:
    return IDLE if source.health.role == "master" else facts.link_down_s


def _persistence_failed(source: SourceStats, _facts: SourceFacts) -> Figure:
    return None if source.health.persistence_ok is None else float(not source.health.persistence_ok)


def _no_data(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.no_data_s


def _queue_metric(
    name: str, unit: Unit, meaning: str, phrase: str, take: TakeQueue, *, bounded: bool = False, events: int = 0
) -> Metric:
    return Metric(
        name=name,
        unit=unit,
        subject="queue",
        meaning=meaning,
        phrase=phrase,
        take_queue=take,
        bounded=bounded,
        min_events=events,
    )


def _source_metric(
    name: str, unit: Unit, meaning: str, phrase: str, take: TakeSource, *, bounded: bool = False, several: bool = False
) -> Metric:
    return Metric(
        name=name,
        unit=unit,
        subject="source",
        meaning=meaning,
        phrase=phrase,
        take_source=take,
        bounded=bounded,
        several=several,
    )


def _unavailable_metric(name: str, unit: Unit, meaning: str, phrase: str) -> Metric:
    return Metric(
        name=name,
        unit=unit,
        subject="queue",
        meaning=meaning,
        phrase=phrase,
        unavailable="it needs several days of history, which is not stored yet",
    )


_TABLE: tuple[Metric, ...] = (
    _queue_metric(
        *("queue.depth", "count", "jobs waiting now, without scheduled and active jobs", "{} waiting job(s)"),
        _queue_depth,
    ),
    _queue_metric(
        *("queue.latency_s", "s", "age of the oldest waiting job; 0 if none is waiting", "oldest waiting job {}"),
        _queue_latency,
    ),
    _queue_metric(
        *(
            "queue.no_progress_s",
            "s",
            "time since a job last finished (or started, if finished jobs leave no record), while jobs are waiting",
            "no progress for {}",
        ),
        _no_progress,
    ),
    _queue_metric(
        *("queue.throughput_per_min", "per_min", "jobs finished per minute, averaged over 5 minutes"),
        "{} job(s) finished per minute",
        _queue_throughput,
    ),
    _queue_metric(
        *("queue.error_ratio", "ratio", "share of finished jobs that failed permanently, over 15 minutes"),
        "{} of jobs failing",
        _error_ratio,
        bounded=True,
        events=ERROR_MIN_EVENTS,
    ),
    _queue_metric("queue.dead", "count", "jobs in the dead letters", "{} dead letter(s)", _dead_letters),
    _queue_metric(
        *("queue.dead_growth_per_h", "per_h", "increase in dead letters over the last hour; 0 if they decrease"),
        "{} dead letter(s) per hour",
        _dead_growth,
    ),
    _queue_metric("queue.active_age_s", "s", "run time of the oldest active job", "a job running for {}", _active_age),
    _queue_metric(
        *("queue.stalled", "count", "active jobs whose lock expired or whose worker no longer exists"),
        "{} stalled job(s)",
        _stalled_jobs,
    ),
    _queue_metric(
        *("queue.overdue_s", "s", "how overdue the earliest scheduled job is; unknown while the queue is paused"),
        "a scheduled job overdue by {}",
        _overdue_s,
    ),
    _queue_metric(
        "queue.consumers", "count", "workers on this queue, while jobs are waiting", "{} worker(s)", _consumer_count
    ),
    _queue_metric(
        "queue.paused_s", "s", "how long the queue has been paused with jobs waiting", "paused for {}", _paused_s
    ),
    _unavailable_metric("queue.enqueue_idle_s", "s", "time since a job was last enqueued", "no job enqueued for {}"),
    _unavailable_metric(
        "queue.runtime_p95_ratio",
        "ratio",
        "p95 run time over 15 minutes, relative to the p95 of the last week",
        "p95 run time {} of last week's",
    ),
    Metric(
        name="workers.count",
        unit="count",
        subject="library",
        meaning="running workers on this library's queues, while it has jobs; if workers are only known per queue, the "
        "highest number on one queue",
        phrase="{} worker(s)",
    ),
    _source_metric(
        "redis.unreachable_s", "s", "time since the last successful reply", "no reply for {}", _unreachable_s
    ),
    _source_metric("redis.writes_refused", "flag", "1 if Redis refuses a write from Queuedeck", "", _writes_refused),
    _source_metric(
        "redis.memory_ratio", "ratio", "used memory as a share of maxmemory", "memory {} used", _memory_ratio
    ),
    _source_metric(
        *("redis.memory_full_in_s", "s", "time until maxmemory is reached, at the rate of the last 30 minutes"),
        "full in {}",
        _memory_full_in,
        several=True,
    ),
    _source_metric(
        *("redis.evicted_per_min", "per_min", "keys evicted per minute", "{} key(s) evicted per minute"),
        _evicted_per_min,
        several=True,
    ),
    _source_metric(
        *("redis.eviction_policy", "flag", "1 if Redis may evict jobs of a library that forbids eviction", ""),
        _eviction_policy,
    ),
    _source_metric(
        *("redis.rejected_per_min", "per_min", "connections rejected per minute"),
        "{} connection(s) rejected per minute",
        _rejected_per_min,
        several=True,
    ),
    _source_metric(
        *("redis.clients_ratio", "ratio", "connected clients as a share of maxclients", "{} of connections in use"),
        _clients_ratio,
        bounded=True,
    ),
    _source_metric(
        *("redis.fragmentation_ratio", "ratio", "allocator fragmentation, if it wastes 256 MiB or more"),
        "fragmentation {}",
        _fragmentation_ratio,
    ),
    _source_metric(
        *("redis.replica_lag_bytes", "bytes", "how far behind the slowest replica is", "slowest replica {} behind"),
        _replica_lag,
    ),
    _source_metric(
        *("redis.replica_link_down_s", "s", "how long this replica has been disconnected from its primary"),
        "disconnected from the primary for {}",
        _replica_link,
    ),
    _source_metric(
        "redis.persistence_failed", "flag", "1 if the last RDB save or AOF write failed", "", _persistence_failed
    ),
    _source_metric(
        *("source.no_data_s", "s", "how long queues have been unreadable although Redis responds", "no data for {}"),
        _no_data,
    ),
    Metric(
        name="checker.heartbeat_age_s",
        unit="s",
        subject="checker",
        meaning="time since the previous evaluation finished",
        phrase="{} since the last evaluation",
    ),
    Metric(
        name="notify.undelivered_s",
        unit="s",
        subject="channel",
        meaning="age of the oldest undelivered notification",
        phrase="oldest undelivered notification {}",
    ),
    Metric(
        name="notify.dead",
        unit="count",
        subject="channel",
        meaning="failed notifications not yet resent or dismissed",
        phrase="{} failed notification(s)",
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


def describe_value(name: str, value: float | None, reducer: str = "last") -> str | None:
    """The value of an alert with the words of its metric, after the reducer of its rule.

    None if the value is unknown, or of a flag: there, the name of the rule says everything.
    """
    metric = METRICS.get(name)
    if value is None or metric is None or not metric.phrase:
        return None if value is None or metric else format_figure(value, "count")
    if reducer == "rate":
        return f"change of {format_figure(value, metric.unit)} per minute"
    return metric.fill_phrase(value)


def count_library_workers(queues: list[QueueStats]) -> Figure:
    """`workers.count` of one library on one source, from the rows of its queues."""
    busy = False
    counted: list[int] = []
    for queue in queues:
        counts = queue.counts
        # Jobs waiting in a paused queue need no worker.
        waiting = not queue.paused and (queue.depth or counts.scheduled or counts.retrying)
        busy = busy or bool(counts.active or waiting)
        if queue.workers is not None:
            if queue.shared:
                counted = [queue.workers]  # the row for all queues counts every process
                break
            counted.append(queue.workers)
    if any(queue.error for queue in queues):
        return None
    if not busy:
        return IDLE
    return max(counted) if counted else None
