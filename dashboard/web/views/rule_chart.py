"""The last hour of a metric against its thresholds, as paths and heights for inline SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...alerts.rules.rule import Rule
from ...sampling.recent_history import Point
from .sparkline import line

# The upper edge, as a multiple of the highest point or threshold.
HEADROOM = 1.15
FAR = 10.0


@dataclass(frozen=True, slots=True)
class ThresholdLine:
    """A threshold in the chart: `y` counts from the top."""

    severity: str
    value: float
    y: int


@dataclass(frozen=True, slots=True)
class RuleChart:
    """A chart; `path` is "" while no point is known."""

    path: str
    behind: str  # the path of another series on the same scale
    levels: tuple[ThresholdLine, ...]
    width: int
    height: int
    peak: float | None  # the highest point of the first series; the lowest where low is bad


def build_chart(
    rule: Rule, points: Sequence[Point], slots: int, width: int, height: int, behind: Sequence[Point] = ()
) -> RuleChart:
    """The chart of `points`, with others `behind` them, right-aligned in `slots` places, and the thresholds of `rule`.

    Zero is the lower edge. Where low is bad, points far above the thresholds are drawn at the upper edge.
    """
    thresholds = [(severity.value, rule.threshold(severity)) for severity in rule.severities]
    known = [point for point in points if point is not None]
    top = max([*known, *(point for point in behind if point is not None), *(value for _, value in thresholds), 0.0])
    low_is_bad = not rule.worsens_upwards
    highest = max(value for _, value in thresholds)
    if low_is_bad and highest > 0:
        top = min(top, highest * FAR)
    top = top * HEADROOM or 1.0
    scale = (height - 2) / top
    levels = (ThresholdLine(name, value, round(height - 1 - max(0.0, value) * scale)) for name, value in thresholds)

    def path(series: Sequence[Point]) -> str:
        return line(series, slots, width, height, top=top, lowest=low_is_bad)

    worst = (min if low_is_bad else max)(known, default=None)
    return RuleChart(path(points), path(behind), tuple(levels), width, height, worst)
