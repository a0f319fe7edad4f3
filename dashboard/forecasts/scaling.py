"""How many workers a queue needs, from the measured work rate of one. Pure: no Redis, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from ..model import ForecastState, QueueForecast, QueueStats, State
from .queue_forecaster import LOWER_BOUND, NO_COUNT, UNREADABLE

# What pages offer: empty in so many seconds.
TARGETS_S = (300.0, 900.0, 3600.0, 14_400.0)
# At most so many times the workers there are is a useful suggestion, and always so many.
_MOST_TIMES, _MOST_MORE = 4, 10
MOST_WORKERS = 100_000

NO_RATE = "the work rate of a worker is not known: it is measured while jobs wait, and at least 10 finish"
NO_ARRIVALS = "the number of jobs that arrive is not known, since finished jobs are not counted"
UNKNOWN_WORKERS = "the number of workers is not known"


class MoreWorkers(NamedTuple):
    """So many more workers would empty the queue in that time; with `stops_growth`, they only stop the growth."""

    workers: int
    empty_in_s: float


class WantedWorkers(NamedTuple):
    """The number of workers that a queue needs; `workers` None, with the reason, if that is not known."""

    workers: int | None
    reason: str | None = None


def needed_workers(queue: QueueStats, target_s: float) -> int | None:
    """The workers that empty the queue in `target_s`, at the rates of its forecast; None if a figure is unknown."""
    forecast = queue.forecast
    if forecast is None or queue.depth is None:
        return None
    arriving, rate = forecast.arriving_per_min, forecast.per_worker_per_min
    if arriving is None or not rate:
        return None
    return min(MOST_WORKERS, _needed(queue.depth, arriving, rate, target_s))


def suggest_more_workers(queue: QueueStats) -> MoreWorkers | None:
    """The soonest of TARGETS_S that a reasonable number of further workers reaches, much sooner than without them.

    None while the queue is empty, keeps up, is paused, or a figure is unknown.
    """
    forecast, workers = queue.forecast, queue.workers
    if forecast is None or not workers or queue.paused:
        return None
    if forecast.state not in (ForecastState.DRAINING, ForecastState.GROWING, ForecastState.NEVER):
        return None
    left_s = math.inf if forecast.empty_in_s is None else forecast.empty_in_s
    found: MoreWorkers | None = None
    for target_s in TARGETS_S:
        needed = needed_workers(queue, target_s)
        if needed is None or needed <= workers or target_s > left_s / 2:
            break
        found = MoreWorkers(needed - workers, target_s)
        if found.workers <= max(_MOST_MORE, _MOST_TIMES * workers):
            break
    return found


def want_workers(
    queue: QueueStats, shared: Iterable[QueueStats], target_s: float, rate_per_min: float | None = None
) -> WantedWorkers:
    """The workers that `queue` needs to be empty within `target_s`; never 0 because something is not known.

    `shared`: the entries for all queues of its library, for jobs that it does not list by queue. `rate_per_min`: jobs
    that one worker finishes per minute, as long as that is not measured.
    """
    if queue.error is not None or queue.depth is None:
        return WantedWorkers(None, UNREADABLE if queue.error is not None else NO_COUNT)
    if State.WAITING in queue.at_least:
        return WantedWorkers(None, LOWER_BOUND)
    if queue.paused:  # workers would not take its jobs; they are needed once it is resumed
        return WantedWorkers(queue.workers, UNKNOWN_WORKERS if queue.workers is None else None)
    least = 1 if queue.depth or _has_other_work(queue, shared) else 0
    forecast = queue.forecast or QueueForecast(state=ForecastState.EMPTY)
    arriving, rate = forecast.arriving_per_min, forecast.per_worker_per_min or rate_per_min
    if arriving is None and not queue.depth:
        arriving = queue.throughput_per_min  # over five minutes: what arrived was finished
    if arriving == 0 and not queue.depth:
        return WantedWorkers(least)
    if queue.depth and queue.workers == 0 and not rate:
        return WantedWorkers(least)  # the first worker shows how fast one is
    if arriving is None:
        return WantedWorkers(None, forecast.reason or NO_ARRIVALS)
    if rate:
        return WantedWorkers(min(MOST_WORKERS, max(least, _needed(queue.depth, arriving, rate, target_s))))
    if not queue.depth and queue.workers and queue.counts.active is not None:
        # They keep up. A worker runs at least one job, so no more are needed than jobs are running.
        return WantedWorkers(max(least, min(queue.workers, queue.counts.active + 1)))
    return WantedWorkers(None, NO_RATE)


def _needed(depth: int, arriving_per_min: float, rate_per_min: float, target_s: float) -> int:
    # A thousandth of a worker is rounding, not a reason for another one.
    return math.ceil((depth * 60 / target_s + arriving_per_min) / rate_per_min - 0.001)


def _has_other_work(queue: QueueStats, shared: Iterable[QueueStats]) -> bool:
    """Whether jobs are running, or late scheduled ones need a worker to start them; True if that is unknown."""
    shared = list(shared)
    running = [one.counts.active for one in [queue, *shared]]
    own = running[0] if running[0] is not None else next((count for count in running if count is not None), None)
    return own is None or own > 0 or any(one.overdue_s for one in [queue, *shared])
