"""Runs, failures and run times per job class."""

from __future__ import annotations

from .base import Value


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
