"""The table of metrics: name, unit, subject, how the figure is read from one sample, and its words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from ...model import QueueStats, SourceStats
from ...units import UNKNOWN, format_figure
from ..evaluation.durations import QueueFacts, SourceFacts
from . import activity_figures, figures
from .figures import Figure

Unit = Literal["s", "count", "ratio", "per_min", "per_h", "bytes", "flag"]
Subject = Literal["queue", "class", "library", "source", "error", "schedule", "slo", "channel", "checker"]
TakeQueue: TypeAlias = Callable[[QueueStats, QueueFacts, int], Figure]
TakeSource: TypeAlias = Callable[[SourceStats, SourceFacts], Figure]

ERROR_MIN_EVENTS = 20
RUN_TIME_MIN_EVENTS = 50
SLO_MIN_EVENTS = 20
ACTIVITY_MIN_JOBS = 20  # usual ones: with fewer, none can be chance
# The first part of a metric's name -> the heading of its group.
_GROUPS = {
    "queue": "Queue",
    "class": "Queue",
    "workers": "Workers",
    "redis": "Redis",
    "source": "Redis",
    "error": "Errors",
    "schedule": "Schedules",
    "slo": "SLOs",
    "checker": "Queuedeck",
    "notify": "Queuedeck",
}
# The names that people choose from, within their groups.
_TITLES = {
    "queue.depth": "waiting jobs",
    "queue.latency_s": "oldest waiting job",
    "queue.no_progress_s": "time without progress",
    "queue.throughput_per_min": "processed jobs per minute",
    "queue.error_ratio": "share of failing jobs",
    "queue.dead": "dead letters",
    "queue.dead_growth_per_h": "growth of dead letters",
    "queue.active_age_s": "longest-running job",
    "queue.stalled": "stalled jobs",
    "queue.overdue_s": "most overdue scheduled job",
    "queue.consumers": "workers on the queue",
    "queue.paused_s": "paused with jobs waiting",
    "queue.enqueue_idle_s": "time since the last new job",
    "queue.runtime_p95_ratio": "run time compared with last week",
    "class.runtime_p95_ratio": "run time of a job class compared with last week",
    "queue.activity_ratio": "jobs compared with what is usual at this hour",
    "class.activity_ratio": "jobs of a job class compared with what is usual at this hour",
    "queue.workers_ratio": "workers compared with what is usual at this hour",
    "workers.count": "running workers",
    "redis.unreachable_s": "time without a reply",
    "redis.writes_refused": "writes refused",
    "redis.memory_ratio": "memory used",
    "redis.memory_full_in_s": "time until memory is full",
    "redis.evicted_per_min": "evicted keys per minute",
    "redis.eviction_policy": "eviction policy can drop jobs",
    "redis.rejected_per_min": "rejected connections per minute",
    "redis.clients_ratio": "connections in use",
    "redis.fragmentation_ratio": "memory fragmentation",
    "redis.replica_lag_bytes": "replica lag",
    "redis.replica_link_down_s": "time without its primary",
    "redis.sentinels_silent": "no Sentinel responds",
    "redis.persistence_failed": "persistence failed",
    "source.no_data_s": "time with unreadable queues",
    "error.new": "new error group",
    "error.regressed": "error group that returned",
    "schedule.late_s": "late schedule",
    "slo.burn_rate_1h": "burn rate of the last hour",
    "slo.burn_rate_6h": "burn rate of the last 6 hours",
    "slo.burn_rate_3d": "burn rate of the last 3 days",
    "checker.heartbeat_age_s": "time since the last evaluation",
    "notify.undelivered_s": "oldest undelivered notification",
    "notify.dead": "failed notifications",
}


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

    @property
    def group(self) -> str:
        """The heading under which people look for it: Queue, Workers, Redis, Errors, Schedules, SLOs or Queuedeck."""
        return _GROUPS[self.name.partition(".")[0]]

    @property
    def title(self) -> str:
        """The name in words within its group: waiting jobs."""
        return _TITLES[self.name]

    @property
    def label(self) -> str:
        """The name in words: Queue: waiting jobs."""
        return f"{self.group}: {self.title}"

    @property
    def measure(self) -> str:
        """What its numbers count or measure: waiting jobs, dead letters per hour, duration, %."""
        if self.unit in ("count", "per_min", "per_h"):
            return self.phrase.removeprefix("{} ").replace("(s)", "s")
        return {"ratio": "%", "s": "duration", "bytes": "size"}.get(self.unit, "1 is yes")

    def fill_phrase(self, value: float) -> str:
        """A figure with the words of this metric: 80 dead letters per hour, 1 worker, full in 20 m; "" for a flag."""
        # The phrase of a rate contains "per hour" itself.
        figure = format_figure(value, "count" if self.unit in ("per_min", "per_h") else self.unit)
        return self.phrase.replace("(s)", "" if figure == "1" else "s").format(figure)


def _queue_metric(
    name: str,
    unit: Unit,
    take: TakeQueue,
    phrase: str,
    meaning: str,
    *,
    bounded: bool = False,
    several: bool = False,
    events: int = 0,
) -> Metric:
    return Metric(
        name=name, unit=unit, subject="queue", meaning=meaning, phrase=phrase,
        take_queue=take, bounded=bounded, several=several, min_events=events,
    )  # fmt: skip


def _source_metric(
    name: str, unit: Unit, take: TakeSource, phrase: str, meaning: str, *, bounded: bool = False, several: bool = False
) -> Metric:
    return Metric(
        name=name, unit=unit, subject="source", meaning=meaning, phrase=phrase,
        take_source=take, bounded=bounded, several=several,
    )  # fmt: skip


def _burn_rate_metric(name: str, long: str, short: str) -> Metric:
    return Metric(
        name=name, unit="count", subject="slo", phrase="{} times the allowed rate", several=True,
        min_events=SLO_MIN_EVENTS,
        meaning="how many times faster than its target allows an SLO uses its error budget: the lower of the rates "
        f"over {long} and over {short}",
    )  # fmt: skip


# A row: name, unit, how the figure is read, how messages show it, what it means.
_TABLE: tuple[Metric, ...] = (
    _queue_metric("queue.depth", "count", figures.queue_depth, "{} waiting job(s)",
                  "jobs waiting now, without scheduled and active jobs"),
    _queue_metric("queue.latency_s", "s", figures.queue_latency, "oldest job waiting {}",
                  "age of the oldest waiting job; 0 if none is waiting; not evaluated while the queue is paused"),
    _queue_metric("queue.no_progress_s", "s", figures.no_progress, "no progress for {}",
                  "time since a job last finished (or started, if finished jobs leave no record), while jobs are "
                  "waiting and the queue is not paused"),
    _queue_metric("queue.throughput_per_min", "per_min", figures.queue_throughput, "{} job(s) processed per minute",
                  "jobs processed per minute, succeeded and failed, averaged over 5 minutes; not evaluated while the "
                  "queue is paused"),
    _queue_metric("queue.error_ratio", "ratio", figures.error_ratio, "{} of jobs failed in 15 min",
                  "share of processed jobs that failed permanently, over 15 minutes",
                  bounded=True, events=ERROR_MIN_EVENTS),
    _queue_metric("queue.dead", "count", figures.dead_letters, "{} dead letter(s)",
                  "jobs in the dead letters"),
    _queue_metric("queue.dead_growth_per_h", "per_h", figures.dead_growth, "{} dead letter(s) per hour",
                  "increase in dead letters over the last hour; 0 if they decrease"),
    _queue_metric("queue.active_age_s", "s", figures.active_age, "a job running for {}",
                  "run time of the oldest active job"),
    _queue_metric("queue.stalled", "count", figures.stalled_jobs, "{} stalled job(s)",
                  "active jobs whose lock expired or whose worker no longer exists"),
    _queue_metric("queue.overdue_s", "s", figures.overdue_s, "a scheduled job overdue by {}",
                  "how overdue the earliest scheduled job is; not evaluated while the queue is paused"),
    _queue_metric("queue.consumers", "count", figures.consumer_count, "{} worker(s)",
                  "workers on this queue, while jobs are waiting and the queue is not paused"),
    _queue_metric("queue.paused_s", "s", figures.paused_s, "paused for {}",
                  "how long the queue has been paused with jobs waiting"),
    _queue_metric("queue.enqueue_idle_s", "s", activity_figures.enqueue_idle, "no new job for {}",
                  "time since the last new job, as far as it was watched; unknown if the library does not report how "
                  "many jobs finish", several=True),
    _queue_metric("queue.activity_ratio", "ratio", activity_figures.activity_ratio, "{} of the usual jobs",
                  "new jobs, or processed ones where new ones are unknown, of the last 15 minutes, 1 or 2 hours, "
                  "compared with the usual number at this hour of the week; not evaluated where jobs are not usual "
                  "at this hour, and while the queue is paused", several=True, events=ACTIVITY_MIN_JOBS),
    _queue_metric("queue.workers_ratio", "ratio", activity_figures.workers_ratio, "{} of the usual workers",
                  "workers on this queue, compared with the usual number at this hour of the week; not evaluated "
                  "where that number varies, and while the queue is paused", several=True),
    _queue_metric("queue.runtime_p95_ratio", "ratio", figures.run_time_ratio, "p95 run time {} of the usual",
                  "p95 run time of the last 15 minutes, compared with the usual p95 of the last 7 days; not evaluated "
                  "while it is less than 1 s longer", several=True, events=RUN_TIME_MIN_EVENTS),
    Metric(name="class.runtime_p95_ratio", unit="ratio", subject="class", phrase="p95 run time {} of the usual",
           meaning="as for queues, for each job class of the queues", several=True, min_events=RUN_TIME_MIN_EVENTS),
    Metric(name="class.activity_ratio", unit="ratio", subject="class", phrase="{} of the usual jobs",
           meaning="processed jobs of each job class in the last 2 hours, compared with the usual number at this hour "
           "of the week; not evaluated where jobs are not usual at this hour, and while the queue is paused",
           several=True, min_events=ACTIVITY_MIN_JOBS),
    Metric(name="workers.count", unit="count", subject="library", phrase="{} worker(s)",
           meaning="running workers on this library's queues, while it has jobs; if workers are only known per "
           "queue, the highest number on one queue"),
    _source_metric("redis.unreachable_s", "s", figures.unreachable_s, "no reply for {}",
                   "time since the last successful reply"),
    _source_metric("redis.writes_refused", "flag", figures.writes_refused, "",
                   "1 if Redis refuses a write from Queuedeck"),
    _source_metric("redis.memory_ratio", "ratio", figures.memory_ratio, "memory {} used",
                   "used memory as a share of maxmemory"),
    _source_metric("redis.memory_full_in_s", "s", figures.memory_full_in, "full in {}",
                   "time until maxmemory is reached, at the rate of the last 30 minutes", several=True),
    _source_metric("redis.evicted_per_min", "per_min", figures.evicted_per_min, "{} key(s) evicted per minute",
                   "keys evicted per minute", several=True),
    _source_metric("redis.eviction_policy", "flag", figures.eviction_policy, "",
                   "1 if Redis may evict jobs of a library that forbids eviction"),
    _source_metric("redis.rejected_per_min", "per_min", figures.rejected_per_min,
                   "{} connection(s) rejected per minute", "connections rejected per minute", several=True),
    _source_metric("redis.clients_ratio", "ratio", figures.clients_ratio, "{} of connections in use",
                   "connected clients as a share of maxclients", bounded=True),
    _source_metric("redis.fragmentation_ratio", "ratio", figures.fragmentation_ratio, "memory fragmentation {}",
                   "allocator fragmentation, if it wastes 256 MiB or more"),
    _source_metric("redis.replica_lag_bytes", "bytes", figures.replica_lag, "slowest replica {} behind",
                   "how far behind the slowest replica is"),
    _source_metric("redis.replica_link_down_s", "s", figures.replica_link, "disconnected from the primary for {}",
                   "how long this replica has been disconnected from its primary"),
    _source_metric("redis.sentinels_silent", "flag", figures.sentinels_silent, "",
                   "1 if none of the Sentinels of this Redis responds: a failover would not be noticed"),
    _source_metric("redis.persistence_failed", "flag", figures.persistence_failed, "",
                   "1 if the last RDB save or AOF write failed"),
    _source_metric("source.no_data_s", "s", figures.no_data, "no data for {}",
                   "how long queues have been unreadable although Redis responds"),
    Metric(name="error.new", unit="count", subject="error", phrase="{} job(s)",
           meaning="dead letters of an error group that is new, until it is acknowledged, ignored or resolved, for at "
           "most a day; 0 for other groups"),
    Metric(name="error.regressed", unit="count", subject="error", phrase="{} job(s)",
           meaning="dead letters of an error group that returned after it was resolved, or after an hour without "
           "deaths, until it is acknowledged, ignored or resolved; 0 for other groups"),
    Metric(name="schedule.late_s", unit="s", subject="schedule", phrase="{} late",
           meaning="how long ago the next run of a schedule was due, while it has not run; not evaluated while the "
           "schedule or its queue is paused"),
    _burn_rate_metric("slo.burn_rate_1h", "1 hour", "5 minutes"),
    _burn_rate_metric("slo.burn_rate_6h", "6 hours", "30 minutes"),
    _burn_rate_metric("slo.burn_rate_3d", "3 days", "6 hours"),
    Metric(name="checker.heartbeat_age_s", unit="s", subject="checker", phrase="{} since the last evaluation",
           meaning="time since the previous evaluation finished"),
    Metric(name="notify.undelivered_s", unit="s", subject="channel", phrase="oldest undelivered notification {} old",
           meaning="age of the oldest undelivered notification"),
    Metric(name="notify.dead", unit="count", subject="channel", phrase="{} failed notification(s)",
           meaning="failed notifications not yet resent or dismissed"),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


def describe_value(name: str, value: float | None, reducer: str = "last") -> str | None:
    """The value of an alert with the words of its metric, after the reducer of its rule.

    None if the value is unknown, or of a flag: there, the name of the rule says everything.
    """
    metric = METRICS.get(name)
    if value is None or metric is None or not metric.phrase:
        return None if value is None or metric else format_figure(value, "count")
    if reducer == "rate":
        return f"{name} changes by {format_figure(value, metric.unit)} per minute"
    return metric.fill_phrase(value)


def format_threshold(name: str, threshold: float, reducer: str = "last") -> str:
    """The threshold of a rule on this metric with its unit; a plain number for an unknown metric."""
    metric = METRICS.get(name)
    return format_amount(threshold, metric.unit if metric else "count", reducer)


def format_amount(value: float | None, unit: str, reducer: str = "last") -> str:
    """A value or threshold with its unit, after the reducer of its rule; a dash for None.

    The change of a flag is a number, not yes or no.
    """
    if value is None:
        return UNKNOWN
    figure = format_figure(value, "count" if reducer == "rate" and unit == "flag" else unit)
    return f"{figure} per minute" if reducer == "rate" else figure
