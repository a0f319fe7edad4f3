"""What is known of one objective at a moment: compliance, error budget, burn rates. Pure: no Redis, no clock.

The error budget is the share of jobs that may be bad: 1% for a target of 99%. A burn rate of 1 uses up exactly the
budget of the window within the window; a burn rate of 2 uses it up in half of that time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ..model import Value
from ..settings import SloSettings
from .good_jobs import JobCounts

# Name -> seconds. Alerts compare two of them at a time.
BURN_WINDOWS: Final[Mapping[str, int]] = {"5m": 300, "30m": 1800, "1h": 3600, "6h": 21_600, "3d": 259_200}
# A report that is older than this describes the past.
CURRENT_S = 600.0
NO_JOBS = JobCounts()


class QueueName(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """A queue that an objective cannot count."""

    source: str
    backend: str
    name: str


class SloStep(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """The jobs of one part of the window, from `start_s` (seconds since 1970) on."""

    start_s: int
    counts: JobCounts


class SloReport(Value, frozen=True, kw_only=True):
    """The jobs of one objective until `at` (seconds since 1970), as the leader counted them.

    `digest`: of the objective. `recent`: by name of BURN_WINDOWS. `since_s`: the first jobs in the window. `unknown`:
    the first queues whose library does not report what the objective needs; `unknown_count`: of all of them.
    """

    slo_id: str
    digest: str
    at: float
    window: JobCounts
    recent: dict[str, JobCounts]
    since_s: int | None
    step_s: int
    steps: tuple[SloStep, ...]
    counted_queues: int
    unknown_count: int
    unknown: tuple[QueueName, ...]


def digest_of(slo: SloSettings) -> str:
    """Identifies what an objective counts, so that figures of another definition are not shown as its own."""
    said = msgspec.json.encode(msgspec.structs.replace(slo, name=None))
    return hashlib.sha256(said).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class SloStatus:
    """An objective with its last report; None before there is one. All figures are None while they are unknown."""

    slo: SloSettings
    report: SloReport | None = None

    @property
    def counts(self) -> JobCounts | None:
        """The jobs of the window; None without a report, and if no job of it could be counted."""
        return self.report.window if self.report is not None and self.report.window.total > 0 else None

    @property
    def is_unknown(self) -> bool:
        """Whether there are jobs, but none that the objective can count."""
        return self.report is not None and self.report.window.total <= 0 and self.report.unknown_count > 0

    @property
    def good_ratio(self) -> float | None:
        """The share of good jobs in the window."""
        counts = self.counts
        return None if counts is None else counts.good / counts.total

    @property
    def budget_jobs(self) -> float | None:
        """How many jobs of those in the window may be bad."""
        counts = self.counts
        return None if counts is None else counts.total * self.allowed_ratio

    @property
    def budget_left_jobs(self) -> float | None:
        """How many more may be bad; below 0 once the target is missed."""
        counts, budget = self.counts, self.budget_jobs
        return None if counts is None or budget is None else budget - counts.bad

    @property
    def budget_left_ratio(self) -> float | None:
        """The share of the budget that is left: 1 without bad jobs, 0 at the target, below 0 once it is missed."""
        left, budget = self.budget_left_jobs, self.budget_jobs
        return None if left is None or not budget else left / budget

    @property
    def allowed_ratio(self) -> float:
        """The share of jobs that may be bad."""
        return 1 - self.slo.target

    def burn_rate(self, window: str) -> float | None:
        """How many times faster than allowed the budget is used over a window of BURN_WINDOWS; 0 without jobs in it."""
        if self.report is None or self.is_unknown:
            return None
        counts = self.report.recent.get(window, NO_JOBS)
        return counts.bad / counts.total / self.allowed_ratio if counts.total > 0 else 0.0

    def used_up_in_s(self, window: str) -> float | None:
        """In how many seconds nothing is left of the budget at the burn rate of that window; 0 if it is used up.

        None if it lasts: at a burn rate of at most 1.
        """
        left, rate = self.budget_left_ratio, self.burn_rate(window)
        if left is None or rate is None:
            return None
        if left <= 0:
            return 0.0
        return left * self.slo.window_s / rate if rate > 1 else None

    def is_current(self, now_s: float) -> bool:
        """Whether the report is of the last minutes."""
        return self.report is not None and abs(now_s - self.report.at) <= CURRENT_S
