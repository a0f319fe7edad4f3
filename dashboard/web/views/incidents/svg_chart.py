"""Charts as inline SVG, for a file without scripts: axes, lines, bars, gaps and marks. Pure.

Coordinates have one decimal: a pixel is the least that can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..charts.chart_data import ChartData, Values
from ..charts.chart_marks import ChartMark
from ..charts.chart_table import ChartTable, build_chart_table
from ..charts.charts import Chart, ChartLine
from .svg_axes import MAX_TOP, Tick, find_top, time_ticks, value_ticks

# Of the plot; the axes are outside of it.
WIDTH, HEIGHT = 480, 150
MOST_GAPS = 60


class LineSummary(NamedTuple):
    """A line in words: its highest value and the slot of it, its last value; None where nothing is known.

    `unknown_s`: for how long of the range it is unknown.
    """

    highest: float | int | None
    highest_at_s: int | None
    highest_until_s: int | None
    last: float | int | None
    unknown_s: int


class DrawnLine(NamedTuple):
    """A line or the bars of a figure as paths; "" where there is nothing to draw."""

    line: ChartLine
    path: str
    area: str
    summary: LineSummary


class DrawnMark(NamedTuple):
    """A vertical line at `x`."""

    x: float
    mark: ChartMark


class Gap(NamedTuple):
    """A time without figures, in pixels from the left."""

    x: float
    width: float


class SvgChart(NamedTuple):
    """One chart. `about`: what its title does not say. `is_empty`: nothing was recorded."""

    chart: Chart
    about: str
    lines: tuple[DrawnLine, ...]
    marks: tuple[DrawnMark, ...]
    gaps: tuple[Gap, ...]
    values: tuple[Tick, ...]
    times: tuple[Tick, ...]
    table: ChartTable
    is_empty: bool


def draw_chart(chart: Chart, data: ChartData, marks: Sequence[ChartMark], about: str = "") -> SvgChart:
    """A chart of `data`, which has the values of all its lines."""
    known = [value for line in chart.lines for value in data.values[line.figure] if value is not None]
    top, step = find_top(max(known, default=0.0), chart.unit)
    span_s = data.end_s - data.start_s
    return SvgChart(
        chart=chart,
        about=about,
        lines=tuple(_draw_line(line, data, top) for line in chart.lines),
        marks=tuple(
            DrawnMark(round((mark.at_s - data.start_s) / span_s * WIDTH, 1), mark)
            for mark in marks
            if data.start_s <= mark.at_s <= data.end_s
        ),
        gaps=_find_gaps([data.values[line.figure] for line in chart.lines]) if known else (),
        values=tuple(value_ticks(top, step, chart.unit, HEIGHT)),
        times=tuple(time_ticks(data.start_s, data.end_s, WIDTH)),
        table=build_chart_table([chart], data),
        is_empty=not known,
    )


def _draw_line(line: ChartLine, data: ChartData, top: float) -> DrawnLine:
    values = data.values[line.figure]
    path = _bars(values, top) if line.stacked else _line(values, top)
    return DrawnLine(line, path, _area(values, top) if line.area else "", summarize(values, data))


def summarize(values: Values, data: ChartData) -> LineSummary:
    """The values of a line in words."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    place, highest = max(known, key=lambda each: each[1], default=(None, None))
    at_s = None if place is None else data.start_s + place * data.step_s
    return LineSummary(
        highest,
        at_s,
        None if at_s is None else at_s + data.step_s,
        known[-1][1] if known else None,
        (len(values) - len(known)) * data.step_s,
    )


def _runs(values: Values) -> list[tuple[int, list[float | int]]]:
    """The parts without a gap: where each begins, and its values."""
    found: list[tuple[int, list[float | int]]] = []
    before: float | int | None = None
    for place, value in enumerate(values):
        if value is not None:
            if before is None:
                found.append((place, []))
            found[-1][1].append(value)
        before = value
    return found


def _line(values: Values, top: float) -> str:
    width = WIDTH / len(values)
    pieces = []
    for place, run in _runs(values):
        points = [f"{_number((place + n + 0.5) * width)} {_height(value, top)}" for n, value in enumerate(run)]
        # A single point: the round end of a line draws a dot.
        pieces.append(f"M{points[0]}h0" if len(points) == 1 else f"M{'L'.join(points)}")
    return "".join(pieces)


def _area(values: Values, top: float) -> str:
    width = WIDTH / len(values)
    pieces = []
    for place, run in _runs(values):
        points = [f"{_number((place + n + 0.5) * width)} {_height(value, top)}" for n, value in enumerate(run)]
        first, last = _number((place + 0.5) * width), _number((place + len(run) - 0.5) * width)
        pieces.append(f"M{first} {HEIGHT}L{'L'.join(points)}L{last} {HEIGHT}z")
    return "".join(pieces)


def _bars(values: Values, top: float) -> str:
    """Each value as high as its slot is wide; neighbors touch."""
    width = WIDTH / len(values)
    pieces = []
    for place, run in _runs(values):
        steps = "".join(f"V{_height(value, top)}H{_number((place + n + 1) * width)}" for n, value in enumerate(run))
        pieces.append(f"M{_number(place * width)} {HEIGHT}{steps}V{HEIGHT}z")
    return "".join(pieces)


def _find_gaps(lines: Sequence[Values]) -> tuple[Gap, ...]:
    """The times in which nothing of a chart is known; none if there are too many to distinguish."""
    unknown = [all(value is None for value in slot) for slot in zip(*lines, strict=True)]
    width = WIDTH / max(1, len(unknown))
    found = [
        Gap(round(place * width, 1), round(len(run) * width, 1))
        for place, run in _runs([1 if is_unknown else None for is_unknown in unknown])
    ]
    return tuple(found) if len(found) <= MOST_GAPS else ()


def _height(value: float, top: float) -> str:
    return _number(HEIGHT - min(max(0.0, value), top, MAX_TOP) / top * HEIGHT)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
