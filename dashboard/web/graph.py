"""A figure of the last hour against its thresholds, as paths and heights for inline SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.alerts.rules import Rule
from dashboard.collect.history import Point
from dashboard.web.sparkline import line

# So much of the height stays free above the highest of points and thresholds.
HEADROOM = 1.15


@dataclass(frozen=True, slots=True)
class Level:
    """A threshold in the graph: `y` counts from above."""

    severity: str
    value: float
    y: int


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn; `path` is "" while no point is known."""

    path: str
    levels: tuple[Level, ...]
    width: int
    height: int
    peak: float | None  # the highest point


def graph(rule: Rule, points: Sequence[Point], slots: int, width: int, height: int) -> Graph:
    """`points` right-aligned in `slots` places, with the thresholds of the rule; zero is the lower edge."""
    thresholds = [(severity.value, rule.threshold(severity)) for severity in rule.severities]
    known = [point for point in points if point is not None]
    top = max([*known, *(value for _, value in thresholds), 0.0]) * HEADROOM or 1.0
    scale = (height - 2) / top
    levels = (Level(name, value, round(height - 1 - max(0.0, value) * scale)) for name, value in thresholds)
    return Graph(line(points, slots, width, height, top=top), tuple(levels), width, height, max(known, default=None))
