"""A rule that a user may want for one queue, with thresholds from its own figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ....alerts.delivery.message import clean_text, glob_of
from ....alerts.evaluation.preview import failure_ratios
from ....alerts.rules.metrics import describe_value, format_amount
from ....model import QueueStats
from ....sampling.recent_history import Point, QueueHistory
from ....units import write_amount
from ..problems.problem import ProblemKind

WARNING_FACTOR, CRITICAL_FACTOR = 2.0, 5.0
LEAST_COUNT = 10.0  # a queue that is mostly empty must not alert at its third job
LEAST_RATIO, HIGHEST_RATIO = 0.05, 0.9
_DEAD_KINDS = frozenset({ProblemKind.DEAD_LETTERS, ProblemKind.RISING})
_NAMES = {
    "queue.depth": "Too many jobs waiting in {}",
    "queue.dead": "Too many dead letters in {}",
    "queue.error_ratio": "Too many jobs are failing in {}",
}
_MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class SuggestedRule:
    """`arguments`: what the form of a new rule is filled in with. `reason`: where the thresholds come from."""

    arguments: dict[str, str]
    reason: str


def suggest_rule(
    queue: QueueStats, library: str, history: QueueHistory | None, kinds: Collection[ProblemKind]
) -> SuggestedRule:
    """A rule on the metric of its current problem (`kinds`), by default on its waiting jobs. `library`: its title.

    Warning at twice and critical at five times what the metric stays below 95% of the last hour, rounded up.
    """
    metric = _choose_metric(queue, kinds)
    unit = "ratio" if metric == "queue.error_ratio" else "count"
    name = f"all {library} queues" if queue.shared else clean_text(queue.name)
    arguments = {
        "metric": metric,
        "name": _NAMES[metric].format(name[:_MAX_NAME]),
        "queues": glob_of(queue.name),
        "source": glob_of(queue.source),
        "backend": queue.backend,
    }
    usual = percentile_95(_series_of(metric, history))
    if usual is None:
        return SuggestedRule(arguments, "No thresholds suggested: no data for the last hour.")
    warning, critical = (_round_threshold(factor * usual, unit) for factor in (WARNING_FACTOR, CRITICAL_FACTOR))
    if critical <= warning:
        critical = min(2 * warning, 1.0) if unit == "ratio" else 5 * warning
    arguments["warning"] = write_amount(warning, unit)
    if critical > warning:
        arguments["critical"] = write_amount(critical, unit)
    return SuggestedRule(arguments, _describe_reason(metric, unit, usual, warning))


def _describe_reason(metric: str, unit: str, usual: float, warning: float) -> str:
    usually = format_amount(usual, unit)
    least = LEAST_RATIO if unit == "ratio" else LEAST_COUNT
    if WARNING_FACTOR * usual <= least:
        how = f"the minimum; the 95th percentile of the last hour is {usually}"
    elif unit == "ratio" and warning < WARNING_FACTOR * usual:
        how = f"the maximum; the 95th percentile of the last hour is {usually}"
    else:
        how = f"twice the 95th percentile of the last hour ({usually}), rounded up"
    return f"Suggested warning: above {describe_value(metric, warning)}, {how}."


def _choose_metric(queue: QueueStats, kinds: Collection[ProblemKind]) -> str:
    if ProblemKind.FAILING in kinds:
        return "queue.error_ratio"
    if _DEAD_KINDS & set(kinds) or (queue.depth is None and queue.counts.dead is not None):
        return "queue.dead"
    return "queue.depth"


def _series_of(metric: str, history: QueueHistory | None) -> Sequence[Point]:
    if history is None:
        return ()
    if metric == "queue.error_ratio":
        return failure_ratios(history)
    return history.depth if metric == "queue.depth" else history.dead


def percentile_95(points: Sequence[Point]) -> float | None:
    """The lowest of the known points that at least 95% of them do not exceed; None without any."""
    known = sorted(float(point) for point in points if point is not None)
    return known[math.ceil(0.95 * len(known)) - 1] if known else None


def _round_threshold(value: float, unit: str) -> float:
    """`value` rounded up to two digits, within what makes sense for its unit."""
    if unit == "ratio":
        return min(HIGHEST_RATIO, max(LEAST_RATIO, math.ceil(round(value * 100, 6)) / 100))
    step = 10 ** max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 1
    return max(LEAST_COUNT, float(math.ceil(value / step) * step))
