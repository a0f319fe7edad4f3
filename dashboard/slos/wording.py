"""Objectives in words. Pure."""

from __future__ import annotations

import math

from ..forecasts.wording import format_time_left
from ..settings import SloSettings
from ..units import UNKNOWN, format_duration, format_percent
from .slo_report import SloStatus

# What the reports of a queue lack, by what makes a job good.
_LACKING = {
    "waited": "how long jobs waited",
    "ran": "how long jobs ran",
    "succeeded": "how many jobs failed",
}


def describe_target(slo: SloSettings) -> str:
    """The target in percent, with all its digits: 99.95%."""
    return f"{slo.target * 100:.8g}%"


def describe_goal(slo: SloSettings) -> str:
    """What has to be true of most jobs: 99% within 60 s, 99% run at most 5 s, 99.9% succeed."""
    target = describe_target(slo)
    if slo.waited_within_s is not None:
        return f"{target} within {_limit(slo.waited_within_s)}"
    if slo.ran_within_s is not None:
        return f"{target} run at most {_limit(slo.ran_within_s)}"
    return f"{target} succeed"


def explain_goal(slo: SloSettings) -> str:
    """The same as a sentence, with its time: 99% of jobs start within 60 s of when they could, over 30 d."""
    target, over = describe_target(slo), f"over {format_duration(slo.window_s)}"
    if slo.waited_within_s is not None:
        return f"{target} of jobs start within {_limit(slo.waited_within_s)}, {over}"
    if slo.ran_within_s is not None:
        return f"{target} of jobs run for at most {_limit(slo.ran_within_s)}, {over}"
    return f"{target} of jobs succeed, {over}"


def describe_scope(slo: SloSettings) -> str:
    """The queues in words: all queues, mail-*, not mail-test."""
    parts = [", ".join(slo.queues) or "all queues"]
    parts += [f"not {', '.join(slo.queues_not)}"] if slo.queues_not else []
    parts += [f"library {slo.backend}"] if slo.backend != "*" else []
    parts += [f"source {slo.source}"] if slo.source != "*" else []
    return ", ".join(parts)


def describe_lacking(slo: SloSettings) -> str:
    """What the objective needs to know of jobs: how long jobs waited."""
    kind = "succeeded" if slo.succeeded else "waited" if slo.waited_within_s is not None else "ran"
    return _LACKING[kind]


def format_good(ratio: float | None, target: float) -> str:
    """The share of good jobs, rounded down to as many digits as the target needs: 98.73%, 99.873%; a dash for None."""
    if ratio is None:
        return UNKNOWN
    digits = max(1, math.ceil(-math.log10(1 - target) - 1e-9))
    scale = 10**digits
    percent = math.floor(ratio * 100 * scale + 1e-9) / scale
    return f"{percent:.{digits}f}%" if percent < 100 else "100%"


def describe_budget(status: SloStatus) -> str:
    """What is left of the error budget: 41% left, used up, used up 2.5 times; a dash while it is unknown."""
    left = status.budget_left_ratio
    if left is None:
        return UNKNOWN
    if left > 0:
        return f"{format_percent(left)} left"
    return "used up" if left > -0.05 else f"used up {1 - left:.3g} times"


def format_burn_rate(rate: float | None) -> str:
    """How many times faster than allowed the budget is used: 0.8x, 14.4x; a dash for None."""
    return UNKNOWN if rate is None else f"{rate:.3g}x" if rate < 999.5 else f"{rate:.0f}x"


def describe_burn(status: SloStatus, window: str) -> str:
    """What a message says about the burn rate of a window: 99% within 60 s: at this rate the error budget of 30 d is
    used up in 2 d; 41% left."""
    goal, budget = describe_goal(status.slo), f"the error budget of {format_duration(status.slo.window_s)}"
    left_s = status.used_up_in_s(window)
    if left_s == 0:
        return f"{goal}: {budget} is {describe_budget(status)}"
    if left_s is None:
        return f"{goal}: {describe_budget(status)} of {budget}"
    return f"{goal}: at this rate {budget} is used up in {format_time_left(left_s)}; {describe_budget(status)}"


def _limit(seconds: float) -> str:
    """A limit as it was set: 60 s rather than 1 min."""
    return f"{seconds:g} s" if seconds <= 120 else format_duration(seconds)
