"""How the figure of each metric is read from one sample. Pure.

A figure is a number, None (unknown: it neither breaches nor recovers), or not applicable now, which counts as healthy:
IDLE (a queue without waiting jobs needs no worker), PAUSED (a queue that is paused on purpose is not late), or
NOT_USUAL (a queue that is usually quiet at this hour is not missed).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from ...history.run_times import RunTimes
from ...model import QueueStats, SourceStats, State
from ...slos.slo_report import SloStatus
from ..evaluation.durations import QueueFacts, SourceFacts


class Idle(Enum):
    """Why a figure is not applicable now."""

    IDLE = "idle"
    PAUSED = "paused"
    NOT_USUAL = "not usual"

    @property
    def end_reason(self) -> str | None:
        """Why an alert that ends with it has not recovered; None if it has."""
        return {Idle.PAUSED: "queue paused", Idle.NOT_USUAL: "no longer usual at this hour"}.get(self)


class AtLeast(float):
    """A lower bound: beyond a threshold it breaches, below one it is unknown."""

    __slots__ = ()


IDLE: Final = Idle.IDLE
PAUSED: Final = Idle.PAUSED  # an alert that ends with it, or with NOT_USUAL, has not recovered
NOT_USUAL: Final = Idle.NOT_USUAL
Figure: TypeAlias = "float | Idle | None"

# Very short jobs vary a lot: what takes less than this longer than usual does not count as slower.
LEAST_SLOWER_S = 0.1
# Metric -> the windows of which the lower burn rate counts: the long one says that it matters, the short one that it
# still is so.
BURN_RATE_WINDOWS: Final = {
    "slo.burn_rate_1h": ("1h", "5m"),
    "slo.burn_rate_6h": ("6h", "30m"),
    "slo.burn_rate_3d": ("3d", "6h"),
}
# One or two bad jobs of a quiet night are no reason to wake anyone, whatever their share.
LEAST_BAD_JOBS = 3
FRAGMENTED_BYTES = 256 * 1024 * 1024


def queue_depth(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return _count_figure(queue, State.WAITING, queue.depth)


def _count_figure(queue: QueueStats, state: State, figure: float | None) -> float | None:
    """A figure counted from jobs in `state`, which can be a lower bound."""
    return AtLeast(figure) if figure is not None and state in queue.at_least else figure


def queue_latency(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    # The jobs of a paused queue wait on purpose; `queue.paused_s` reports a pause that was forgotten.
    return PAUSED if queue.paused else queue.latency_s


def no_progress(queue: QueueStats, facts: QueueFacts, _least: int) -> Figure:
    return PAUSED if queue.paused else facts.no_progress_s


def queue_throughput(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return PAUSED if queue.paused else queue.throughput_per_min


def error_ratio(queue: QueueStats, _facts: QueueFacts, least: int) -> Figure:
    finished, failed = queue.finished_15min, queue.failed_15min
    if finished is None or failed is None or finished < max(least, 1):
        return None
    return failed / finished


def run_time_ratio(_queue: QueueStats, facts: QueueFacts, least: int) -> Figure:
    return compare_run_times(facts.run_times, least)


def compare_run_times(run_times: RunTimes | None, least: int) -> Figure:
    """How many times the usual run time jobs take; IDLE while they take less than LEAST_SLOWER_S longer, and None with
    fewer than `least` jobs and while it is not known what is usual."""
    if run_times is None or run_times.usual_p95_s is None or run_times.jobs < max(least, 1):
        return None
    if run_times.p95_s - run_times.usual_p95_s < LEAST_SLOWER_S:
        return IDLE
    return run_times.p95_s / run_times.usual_p95_s


def compare_burn_rates(status: SloStatus, metric: str, least: int) -> Figure:
    """The lower burn rate of the two windows of a metric; IDLE with fewer than `least` jobs or LEAST_BAD_JOBS bad ones
    in the long one, and None while it is unknown."""
    long, short = BURN_RATE_WINDOWS[metric]
    rates = status.burn_rate(long), status.burn_rate(short)
    if status.report is None or rates[0] is None or rates[1] is None:
        return None
    counts = status.report.recent.get(long)
    # Half a job less: fractions come from a limit within a bucket.
    if counts is None or counts.total < max(least, 1) or counts.bad < LEAST_BAD_JOBS - 0.5:
        return IDLE
    return min(rates[0], rates[1])


def dead_letters(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return _count_figure(queue, State.DEAD, queue.counts.dead)


def dead_growth(queue: QueueStats, facts: QueueFacts, _least: int) -> Figure:
    return _count_figure(queue, State.DEAD, facts.dead_growth_per_h)


def active_age(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return queue.active_age_s


def stalled_jobs(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    return queue.stalled


def overdue_s(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    # A paused queue does not start scheduled jobs either, which says nothing about its scheduler.
    return PAUSED if queue.paused else queue.overdue_s


def consumer_count(queue: QueueStats, _facts: QueueFacts, _least: int) -> Figure:
    if queue.paused:  # its workers have nothing to do there
        return PAUSED
    if queue.depth == 0:
        return IDLE
    return None if queue.depth is None else queue.workers


def paused_s(_queue: QueueStats, facts: QueueFacts, _least: int) -> Figure:
    return facts.paused_s


def unreachable_s(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.unreachable_s


def writes_refused(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.writes_refused


def memory_ratio(source: SourceStats, _facts: SourceFacts) -> Figure:
    return IDLE if source.health.memory_limited is False else source.health.memory_ratio


def memory_full_in(source: SourceStats, facts: SourceFacts) -> Figure:
    ratio = source.health.memory_ratio
    if source.health.memory_limited is False or facts.never_full or (ratio is not None and ratio <= 0.5):
        return IDLE
    return facts.full_in_s


def evicted_per_min(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.evicted_per_min


def eviction_policy(source: SourceStats, _facts: SourceFacts) -> Figure:
    health = source.health
    if health.eviction_policy is None or health.memory_limited is None:
        return None
    return float(bool(source.needs_noeviction) and health.memory_limited and health.eviction_policy != "noeviction")


def rejected_per_min(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.rejected_per_min


def clients_ratio(source: SourceStats, _facts: SourceFacts) -> Figure:
    clients, most = source.health.clients, source.health.max_clients
    return None if clients is None or not most else clients / most


def fragmentation_ratio(source: SourceStats, _facts: SourceFacts) -> Figure:
    wasted = source.health.allocator_frag_bytes
    if wasted is not None and wasted < FRAGMENTED_BYTES:
        return IDLE
    return None if wasted is None else source.health.allocator_frag_ratio


def replica_lag(source: SourceStats, _facts: SourceFacts) -> Figure:
    if source.health.role == "master" and source.health.replicas == 0:
        return IDLE
    return source.health.replica_lag_bytes


def replica_link(source: SourceStats, facts: SourceFacts) -> Figure:
    return IDLE if source.health.role == "master" else facts.link_down_s


def sentinels_silent(source: SourceStats, _facts: SourceFacts) -> Figure:
    if source.primary is None and source.sentinel_problem is None:
        return IDLE  # it has none
    return float(source.sentinel_problem is not None)


def persistence_failed(source: SourceStats, _facts: SourceFacts) -> Figure:
    return None if source.health.persistence_ok is None else float(not source.health.persistence_ok)


def no_data(_source: SourceStats, facts: SourceFacts) -> Figure:
    return facts.no_data_s


def count_library_workers(queues: list[QueueStats]) -> Figure:
    """`workers.count` of one library on one source, from the rows of its queues."""
    busy = paused = False
    counted: list[int] = []
    for queue in queues:
        counts = queue.counts
        # Jobs waiting in a paused queue need no worker.
        waiting = bool(queue.depth or counts.scheduled or counts.retrying)
        busy = busy or bool(counts.active) or (waiting and not queue.paused)
        paused = paused or (waiting and bool(queue.paused))
        if queue.workers is not None:
            if queue.shared:
                counted = [queue.workers]  # the row for all queues counts every process
                break
            counted.append(queue.workers)
    if any(queue.error for queue in queues):
        return None
    if not busy:
        return PAUSED if paused else IDLE
    return max(counted) if counted else None
