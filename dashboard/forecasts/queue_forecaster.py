"""When a queue will be empty, from the trend of its waiting jobs. Pure: no Redis, no clock."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..model import ForecastState, QueueForecast, QueueStats, State
from .backlog_trend import BacklogChange, BacklogSample, BacklogTrend

# A change is more than chance beyond so many standard deviations, and stays so down to fewer, so that texts do
# not flicker.
SIGMAS = 2.5
STAYS_SIGMAS = 1.5
# A queue that would take longer than this to become empty never does.
LONGEST_S = 7 * 86_400.0
# A number that does not change would take at least this long: it is said that it does not become empty.
NEVER_S = 6 * 3600.0
# As many waiting jobs as finish in this time are no backlog.
KEEPING_UP_S = 60.0
KEEPING_UP_GROWING_S = 10.0
# The moment at which a queue is empty is moved only if it differs by more than this share of the time until then.
MOVES_SHARE = 0.02
# A state must hold for this many steps before it replaces another; longer if it only says that there is no direction.
CONFIRMED_STEPS = 2
CONFIRMED_STEPS_WITHOUT = 6
_DIRECTED = (ForecastState.DRAINING, ForecastState.GROWING)
_UNDIRECTED = (ForecastState.STEADY, ForecastState.NEVER)
# The rate of a worker is remembered for so long after the queue last had enough work for all; it needs so many jobs.
RATE_KEPT_S = 3600.0
RATE_JOBS = 10
_IDLE_SHARE = 0.1
# What another sampler published is used for so long while the own trend is too short.
FORMER_S = 90.0

TOO_SHORT = "it needs a minute of samples"
UNREADABLE = "the queue cannot be read"
NO_COUNT = "the number of waiting jobs is not known"
LOWER_BOUND = "the number of waiting jobs is only a lower bound"
PAUSED = "the queue is paused"
NO_WORKERS = "there are no workers"
THIN = "too few jobs arrive and start"
UNEVEN = "jobs arrive too unevenly"


class _Verdict(NamedTuple):
    state: ForecastState
    reason: str | None = None


_EMPTY = _Verdict(ForecastState.EMPTY)
_TOO_SHORT = _Verdict(ForecastState.UNKNOWN, TOO_SHORT)


class QueueForecaster:
    """Forecasts one queue from its samples. Not thread-safe."""

    def __init__(self) -> None:
        self._trend = BacklogTrend()
        self._shown: _Verdict | None = None
        self._next: _Verdict | None = None  # replaces the state once confirmed
        self._seen_steps = 0
        self._empty_at = 0.0
        self._change: BacklogChange | None = None
        self._worker_rate: tuple[float, float] | None = None  # jobs per second, when measured
        self._busy_at = 0.0  # when a job last waited or finished
        self._built: tuple[_Verdict, QueueForecast] | None = None  # since the last step, without `empty_in_s`
        self._filled: tuple[QueueStats, QueueForecast, QueueStats] | None = None
        self._former: tuple[QueueForecast, float] | None = None  # that another sampler published, as of when

    def adopt(self, former: QueueForecast, at: float) -> None:
        """Continue from a forecast that another sampler published as of `at`, on the clock of `forecast`."""
        self._former = former, at
        if former.per_worker_per_min is not None:
            self._worker_rate = former.per_worker_per_min / 60, at

    def fill_forecast(self, queue: QueueStats, at: float, finished: int | None) -> QueueStats:
        """`queue` with its forecast; `finished` jobs since the sample before, None if they are not counted."""
        forecast = self.forecast(queue, at, finished)
        if self._filled is not None and self._filled[0] is queue and self._filled[1] == forecast:
            return self._filled[2]
        filled = msgspec.structs.replace(queue, forecast=forecast)
        self._filled = queue, forecast, filled
        return filled

    def is_idle(self, at: float) -> bool:
        """Whether nothing worth remembering happened: no job waited or finished while a rate is remembered."""
        return at - self._busy_at > RATE_KEPT_S

    def forecast(self, queue: QueueStats, at: float, finished: int | None) -> QueueForecast:
        """The forecast as of `at`, after adding this sample."""
        obstacle = _find_obstacle(queue)
        if obstacle is not None or queue.depth is None:
            self._shown = self._next = self._built = None
            return QueueForecast(reason=obstacle or NO_COUNT)
        if queue.depth or finished:
            self._busy_at = at
        if self._trend.add(BacklogSample(at, queue.depth, finished, queue.workers)):
            self._change = self._trend.measure()
            self._learn_worker_rate(at)
            self._follow(queue, at)
            self._built = None
        verdict = self._verdict_of(queue)
        if self._built is None or self._built[0] != verdict:
            self._built = verdict, self._build(verdict, at)
        if verdict == _TOO_SHORT and self._former is not None:
            return self._continue_former(*self._former, at) or self._built[1]
        forecast = self._built[1]
        if verdict.state is not ForecastState.DRAINING:
            return forecast
        return msgspec.structs.replace(forecast, empty_in_s=float(max(1, round(self._empty_at - at))))

    def _continue_former(self, former: QueueForecast, published_at: float, at: float) -> QueueForecast | None:
        """What another sampler published, as of now; None once it is too old, or says nothing of waiting jobs."""
        passed_s = at - published_at
        if not 0 <= passed_s <= FORMER_S or former.state in (ForecastState.EMPTY, ForecastState.UNKNOWN):
            self._former = None
            return None
        if former.empty_in_s is None:
            return former
        return msgspec.structs.replace(former, empty_in_s=float(max(1, round(former.empty_in_s - passed_s))))

    def _verdict_of(self, queue: QueueStats) -> _Verdict:
        """What is said of a queue now."""
        if not queue.depth:
            return _EMPTY
        verdict = self._shown or _TOO_SHORT
        # That jobs pile up is known all the same.
        if (queue.paused or queue.workers == 0) and verdict.state is not ForecastState.GROWING:
            return _Verdict(ForecastState.UNKNOWN, PAUSED if queue.paused else NO_WORKERS)
        return verdict

    def _learn_worker_rate(self, at: float) -> None:
        change = self._change
        if change is None or not change.worker_s or change.finished is None or change.finished < RATE_JOBS:
            return
        # Workers that wait for jobs would appear slow.
        if change.idle_s <= _IDLE_SHARE * change.span_s:
            self._worker_rate = change.finished / change.worker_s, at

    def _follow(self, queue: QueueStats, at: float) -> None:
        """Let a new state replace the one that is shown once it is confirmed; move the moment of being empty."""
        found = _judge(queue, self._change, self._shown.state if self._shown else None)
        if self._shown is None or TOO_SHORT in (self._shown.reason, found.reason) or found == self._shown:
            self._shown, self._next = found, None
        elif found != self._next:
            self._next, self._seen_steps = found, 1
        else:
            self._seen_steps += 1
            ends = self._shown.state in _DIRECTED and found.state in _UNDIRECTED
            if self._seen_steps >= (CONFIRMED_STEPS_WITHOUT if ends else CONFIRMED_STEPS):
                self._shown, self._next = found, None
        if found.state is ForecastState.DRAINING and self._change is not None:
            left_s = (queue.depth or 0) / -self._change.per_s
            if abs(at + left_s - self._empty_at) > MOVES_SHARE * left_s:
                self._empty_at = at + left_s

    def _build(self, verdict: _Verdict, at: float) -> QueueForecast:
        change = self._change
        finishing_per_s = change.finished_per_s if change else None
        arriving = None if change is None or finishing_per_s is None else max(0.0, finishing_per_s + change.per_s)
        # While another state is not confirmed yet, the change can already be none.
        is_growing = change is not None and verdict.state is ForecastState.GROWING and change.per_s > 0
        growing = change.per_s if change and is_growing else None
        if self._worker_rate is not None and at - self._worker_rate[1] > RATE_KEPT_S:
            self._worker_rate = None
        return QueueForecast(
            state=verdict.state,
            reason=verdict.reason,
            growing_per_min=_per_min(growing),
            arriving_per_min=_per_min(arriving),
            finishing_per_min=_per_min(finishing_per_s),
            per_worker_per_min=_per_min(self._worker_rate[0] if self._worker_rate else None),
            window_s=float(round(change.span_s)) if change else None,
        )


def _find_obstacle(queue: QueueStats) -> str | None:
    if queue.error is not None:
        return UNREADABLE
    if State.WAITING in queue.at_least:
        return LOWER_BOUND
    return None


def _judge(queue: QueueStats, change: BacklogChange | None, shown: ForecastState | None) -> _Verdict:
    """What the waiting jobs of a queue are doing, without regard to whether it is paused; `shown` until now."""
    if change is None:
        return _Verdict(ForecastState.UNKNOWN, TOO_SHORT)
    depth = queue.depth or 0
    work_s = depth / change.finished_per_s if change.finished_per_s else None  # how long the workers need for it
    if change.change > change.noise * (STAYS_SIGMAS if shown is ForecastState.GROWING else SIGMAS):
        keeps_up = work_s is not None and work_s <= KEEPING_UP_GROWING_S
        return _Verdict(ForecastState.STEADY if keeps_up else ForecastState.GROWING)
    if -change.change > change.noise * (STAYS_SIGMAS if shown is ForecastState.DRAINING else SIGMAS):
        return _Verdict(ForecastState.DRAINING if depth / -change.per_s <= LONGEST_S else ForecastState.NEVER)
    if work_s is not None and work_s <= KEEPING_UP_S:
        return _Verdict(ForecastState.STEADY)
    most_fall = SIGMAS * change.noise - change.change  # that chance could have hidden
    if most_fall > depth / 2:
        return _Verdict(ForecastState.UNKNOWN, THIN if change.noise < 5 else UNEVEN)
    lasts = depth / (most_fall / change.span_s) > NEVER_S
    return _Verdict(ForecastState.NEVER if lasts else ForecastState.STEADY)


def _per_min(per_s: float | None) -> float | None:
    """Rounded for transport to three digits: a figure that is measured is not more precise."""
    return None if per_s is None else float(f"{per_s * 60:.3g}")
