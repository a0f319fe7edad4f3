"""Forecasts: when a queue will be empty at the rates of the last minutes."""

from __future__ import annotations

from enum import StrEnum

from .base import Value


class ForecastState(StrEnum):
    """What the number of waiting jobs is doing."""

    EMPTY = "empty"  # no job is waiting
    DRAINING = "draining"  # it falls: see `empty_in_s`
    GROWING = "growing"  # it rises: see `growing_per_min`
    STEADY = "steady"  # as many jobs arrive as start, as far as can be said
    NEVER = "never"  # jobs are waiting, and their number does not fall at all, or not within a week
    UNKNOWN = "unknown"  # see `reason`


class QueueForecast(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """The forecast of one queue, at the rates of the last `window_s`; None where unknown.

    Scheduled jobs that come due later are not in it: they count once they wait.
    """

    state: ForecastState = ForecastState.UNKNOWN
    reason: str | None = None  # why the state is unknown
    empty_in_s: float | None = None  # while it is draining
    growing_per_min: float | None = None  # while it is growing: jobs that arrive, less those that start
    arriving_per_min: float | None = None  # jobs that became able to start
    finishing_per_min: float | None = None
    per_worker_per_min: float | None = None  # jobs that one worker finishes while it always has one, in the last hour
    window_s: float | None = None
