"""The axes of charts that are drawn on the server: readable steps and their texts. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from ....clock import EPOCH
from ....history.tiers import DAY_S, HOUR_S
from ..charts.charts import chart_figure

MOST_TICKS = 5
MOST_TIMES = 6
# A figure that no axis can hold is drawn at the upper edge.
MAX_TOP = 1e15
_TIMES_S = (60, 300, 600, 900, 1800, HOUR_S, 2 * HOUR_S, 3 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S)
_DAYS = (1, 2, 3, 5, 7)
_SECONDS = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_LEAST_STEP = {"ratio": 0.01, "bytes": 1024.0, "s": 0.001}


class Tick(NamedTuple):
    """A value of an axis: where it is, in pixels, and its text."""

    at: float
    text: str


def find_top(highest: float, unit: str) -> tuple[float, float]:
    """(the value at the upper edge, the step between two ticks) for a chart from zero to at least `highest`."""
    highest = min(max(highest, 0.0), MAX_TOP)
    step = _readable_step(highest / (MOST_TICKS - 1), unit)
    return max(1, math.ceil(highest / step - 1e-9)) * step, step


def _readable_step(least: float, unit: str) -> float:
    least = max(least, _LEAST_STEP.get(unit, 1.0))
    if unit == "bytes":
        power = 1024.0 ** int(math.log(least, 1024))
        return next(power * factor for factor in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1024) if power * factor >= least)
    if unit == "s" and least > 5:
        return float(next((step for step in _SECONDS if step >= least), math.ceil(least / DAY_S) * DAY_S))
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def value_ticks(top: float, step: float, unit: str, height: float) -> list[Tick]:
    """The ticks of the vertical axis from zero upwards; `height` is that of zero, in pixels from the top."""
    count = round(top / step)
    return [Tick(height - height * place / count, chart_figure(place * step, unit)) for place in range(count + 1)]


def time_ticks(start_s: int, end_s: int, width: float) -> list[Tick]:
    """The ticks of the horizontal axis, in UTC: full minutes, hours or days."""
    length_s = end_s - start_s
    steps: Sequence[int] = (*_TIMES_S, *(days * DAY_S for days in _DAYS))
    step_s = next((step for step in steps if length_s / step <= MOST_TIMES), 7 * DAY_S)
    first_s = -(-start_s // step_s) * step_s
    return [Tick((at - start_s) / length_s * width, _time_text(at, step_s)) for at in range(first_s, end_s + 1, step_s)]


def _time_text(at: int, step_s: int) -> str:
    """The time of day; at midnight, the day."""
    moment = EPOCH + timedelta(seconds=at)
    return f"{moment.day} {moment:%b}" if step_s >= DAY_S or at % DAY_S == 0 else f"{moment:%H:%M}"
