"""The last hour of a metric against its thresholds, as paths and heights for inline SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...alerts.rules.metrics import METRICS
from ...alerts.rules.rule import Rule
from ...sampling.recent_history import Point, Series
from ...units import format_figure, shorten_number
from .sparkline import line

# The upper edge, as a multiple of the highest point or threshold.
HEADROOM = 1.15
FAR = 10.0
MOST_TICKS = 4  # above zero
DRAG_STEPS = 60  # a dragged threshold stops at about as many readable values
LABEL_HEIGHT = 16
MAX_TOP = 1e15  # higher figures are drawn at the upper edge
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_LEAST_TOP = {"s": 60.0, "ratio": 0.1, "bytes": 1024.0**2, "flag": 1.0}


@dataclass(frozen=True, slots=True)
class ThresholdLine:
    """A threshold in the chart: `y` counts from the top, `label_y` too, moved so that labels do not overlap."""

    severity: str
    value: float
    y: int
    label_y: int


@dataclass(frozen=True, slots=True)
class AxisTick:
    """A value of the vertical axis: `y` counts from the top."""

    y: int
    text: str


@dataclass(frozen=True, slots=True)
class RuleChart:
    """A chart; `path` is "" while no point is known."""

    path: str
    behind: str  # the path of another series on the same scale
    others: tuple[str, ...]  # the paths of further series
    levels: tuple[ThresholdLine, ...]
    ticks: tuple[AxisTick, ...]
    top: float  # the value at the upper edge
    step: float  # dragged thresholds are multiples of it
    width: int
    height: int
    peak: float | None  # the highest point of the first series; the lowest where low is bad


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """What a chart draws: `points`, right-aligned in `slots` places, over the series `behind` and the `others`."""

    points: Sequence[Point] = ()
    slots: int = 1
    behind: Sequence[Point] = ()
    others: tuple[tuple[Series, int], ...] = ()  # with the slots of each


def build_small_chart(
    rule: Rule,
    points: Sequence[Point],
    slots: int,
    width: int,
    height: int,
    behind: Sequence[Point] = (),
) -> RuleChart:
    """The chart of `points` in a small picture without an axis: its upper edge is just above all that it shows."""
    return build_chart(rule, ChartSeries(points, slots, behind), width, height, thresholds_of(rule), axis=False)


def thresholds_of(rule: Rule) -> dict[str, float]:
    """The thresholds of a rule by severity, the worse one first."""
    return {severity.value: rule.threshold(severity) for severity in rule.severities}


def build_chart(
    rule: Rule, series: ChartSeries, width: int, height: int, thresholds: Mapping[str, float], *, axis: bool = True
) -> RuleChart:
    """The chart of `series` with `thresholds` by severity. With an `axis`, its upper edge is a readable number.

    Zero is the lower edge. Where low is bad, points far above the thresholds are drawn at the upper edge.
    """
    unit = "count" if rule.reducer == "rate" and METRICS[rule.metric].unit == "flag" else METRICS[rule.metric].unit
    low_is_bad = not rule.worsens_upwards
    top, step = _find_top(series, thresholds.values(), low_is_bad=low_is_bad), 0.0
    if axis:
        top, step = _readable_top(top, unit, bounded=METRICS[rule.metric].bounded, is_empty=not thresholds)
    scale = (height - 2) / top

    def height_of(value: float) -> int:
        return round(height - 1 - min(max(0.0, value), top) * scale)

    def path(points: Sequence[Point], slots: int) -> str:
        return line(points, slots, width, height, top=top, lowest=low_is_bad)

    ticks = [count * step for count in range(round(top / step) + 1)] if axis else []
    known = [point for point in series.points if point is not None]
    return RuleChart(
        path=path(series.points, series.slots),
        behind=path(series.behind, series.slots),
        others=tuple(drawn for points, places in series.others if (drawn := path(points, places))),
        levels=_place_labels([(name, value, height_of(value)) for name, value in thresholds.items()], height),
        ticks=tuple(AxisTick(height_of(value), _tick_text(value, unit)) for value in ticks),
        top=top,
        step=readable_step(top / DRAG_STEPS, unit) if axis else 0.0,
        width=width,
        height=height,
        peak=(min if low_is_bad else max)(known, default=None),
    )


def readable_step(least: float, unit: str) -> float:
    """The smallest distance of at least `least` whose multiples are easy to read: 1, 2 or 5 times a power of ten,
    whole minutes and hours, powers of two of bytes."""
    if unit == "s":
        found = next((float(step) for step in _SECONDS if step >= least), None)
        return found if found is not None else 86_400 * readable_step(least / 86_400, "count")
    if unit == "bytes":
        return 2.0 ** math.ceil(math.log2(max(least, 1.0)))
    if unit in ("count", "flag"):
        least = max(least, 1.0)
    power = 10.0 ** math.floor(math.log10(least))
    found = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    return float(f"{found:.6g}")


def _find_top(series: ChartSeries, thresholds: Iterable[float], *, low_is_bad: bool) -> float:
    levels = list(thresholds)
    points = [*series.points, *series.behind, *(point for other, _ in series.others for point in other)]
    top = max([*(point for point in points if point is not None), *levels, 0.0])
    highest = max(levels, default=0.0)
    if low_is_bad and highest > 0:
        top = min(top, highest * FAR)
    return top * HEADROOM or 1.0


def _readable_top(top: float, unit: str, *, bounded: bool, is_empty: bool) -> tuple[float, float]:
    """The upper edge and the distance of its ticks. Without thresholds there is room above the data to set some."""
    if unit == "flag":
        return 1.0, 1.0
    top = max(top * 1.5 if is_empty else top, _LEAST_TOP.get(unit, 10.0) if is_empty else 0.0)
    if unit == "ratio" and bounded:
        top = min(top, 1.0)
    top = min(top, MAX_TOP)
    step = readable_step(top / MOST_TICKS, unit)
    return math.ceil(top / step - 1e-9) * step, step


def _tick_text(value: float, unit: str) -> str:
    return shorten_number(value) if unit in ("count", "per_min", "per_h") else format_figure(value, unit)


def _place_labels(levels: Sequence[tuple[str, float, int]], height: int) -> tuple[ThresholdLine, ...]:
    """The thresholds with their labels at least LABEL_HEIGHT apart, in the order of their heights."""
    placed: dict[str, int] = {}
    lowest = LABEL_HEIGHT // 2
    for left, (name, _, y) in enumerate(sorted(levels, key=lambda each: each[2])):
        room = height - LABEL_HEIGHT // 2 - LABEL_HEIGHT * (len(levels) - 1 - left)
        placed[name] = lowest = min(max(y, lowest), room)
        lowest += LABEL_HEIGHT
    return tuple(ThresholdLine(name, value, y, placed[name]) for name, value, y in levels)
