"""Figures of a job class, and whether it became slower or fails more. Pure: no Redis, no clock."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ...model import Quality
from ..histogram import Histogram, duration_of, percentiles
from .totals import ClassTotals

# Two periods are compared only if both have at least this many jobs: the 95th percentile of fewer is their slowest job.
MIN_JOBS = 20
# Slower: the 95th percentile is at least so many times the earlier one, and longer by at least this.
SLOWER_RATIO = 1.5
SLOWER_S = 0.01
# Failing more: the error ratio rose by at least this, with at least so many failed jobs.
FAILING_INCREASE = 0.05
MIN_FAILED = 5


class Regression(StrEnum):
    """How a class became worse."""

    SLOWER = "slower"
    FAILING = "failing"


class ClassFigures(NamedTuple):
    """The figures of a class in one period; None where they are unknown.

    `timed`: the number of jobs whose run times are known. `total_s`: the sum of their run times.
    """

    quality: Quality
    finished: int | None
    failed: int | None
    per_min: float | None
    error_ratio: float | None
    p50_s: float | None
    p95_s: float | None
    timed: int
    total_s: float | None


class ClassChange(NamedTuple):
    """A class in one period compared with an earlier one; None where that cannot be said.

    `slower_ratio`: the 95th percentile of run times to the earlier one. `error_increase`: of the error ratio.
    """

    slower_ratio: float | None = None
    error_increase: float | None = None
    regressions: tuple[Regression, ...] = ()
    severity: float = 0.0  # of the worst regression: how many times the least change that is one

    @property
    def is_worse(self) -> bool:
        """Whether the class became slower or fails more."""
        return bool(self.regressions)


def figures_of(totals: ClassTotals) -> ClassFigures:
    """The figures of these totals."""
    minutes = totals.counted_ms / 60_000
    finished, failed = totals.finished, totals.failed
    p50_s, p95_s = percentiles(totals.runtimes, (0.5, 0.95))
    return ClassFigures(
        quality=totals.quality,
        finished=finished,
        failed=failed,
        per_min=finished / minutes if finished is not None and minutes > 0 else None,
        error_ratio=min(1.0, failed / finished) if failed is not None and finished else None,
        p50_s=p50_s,
        p95_s=p95_s,
        timed=sum(totals.runtimes.values()),
        total_s=_total_s(totals.runtimes) if totals.runtimes else None,
    )


def compare_figures(now: ClassFigures, earlier: ClassFigures | None) -> ClassChange:
    """How a class changed since `earlier`; nothing can be said without enough jobs in both periods."""
    if earlier is None:
        return ClassChange()
    ratio = increase = None
    found: dict[Regression, float] = {}
    if now.p95_s and earlier.p95_s and min(now.timed, earlier.timed) >= MIN_JOBS:
        ratio = now.p95_s / earlier.p95_s
        if ratio >= SLOWER_RATIO and now.p95_s - earlier.p95_s >= SLOWER_S:
            found[Regression.SLOWER] = ratio / SLOWER_RATIO
    if now.error_ratio is not None and earlier.error_ratio is not None and _has_enough_jobs(now, earlier):
        increase = now.error_ratio - earlier.error_ratio
        # Rounded: 0.15 - 0.1 is less than 0.05.
        if round(increase, 9) >= FAILING_INCREASE and (now.failed or 0) >= MIN_FAILED:
            found[Regression.FAILING] = increase / FAILING_INCREASE
    worst_first = sorted(found, key=found.__getitem__, reverse=True)
    return ClassChange(ratio, increase, tuple(worst_first), max(found.values(), default=0.0))


def _has_enough_jobs(now: ClassFigures, earlier: ClassFigures) -> bool:
    return min(now.finished or 0, earlier.finished or 0) >= MIN_JOBS


def _total_s(runtimes: Histogram) -> float:
    return sum(duration_of(bucket) * count for bucket, count in runtimes.items())
