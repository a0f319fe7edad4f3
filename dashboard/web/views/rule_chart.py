"""A figure of the last hour against its thresholds, as paths and heights for inline SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...alerts.rules.rule import Rule
from ...sampling.recent_history import Point
from .sparkline import line

# So much of the height stays free above the highest of points and thresholds.
HEADROOM = 1.15
FAR = 10.0


@dataclass(frozen=True, slots=True)
class ThresholdLine:
    """A threshold in the graph: `y` counts from above."""

    severity: str
    value: float
    y: int


@dataclass(frozen=True, slots=True)
class RuleChart:
    """What is drawn; `path` is "" while no point is known."""

    path: str
    behind: str  # of another series, in the same measure
    levels: tuple[ThresholdLine, ...]
    width: int
    height: int
    peak: float | None  # the highest point of the first; the lowest where low is bad


def build_chart(
    rule: Rule, points: Sequence[Point], slots: int, width: int, height: int, behind: Sequence[Point] = ()
) -> RuleChart:
    """`points`, and others `behind` them, right-aligned in `slots` places, with the thresholds of the rule; zero is the
    lower edge. Where low is bad, what is far above the thresholds is drawn at the upper edge."""
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
