"""Reducers: combine the figures within a rule's window into one. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..rules.figures import AtLeast, Figure, Idle
from ..rules.rule import Rule
from .state_machine import AlertLabels

MAX_POINTS = 1000  # per subject: older ones are dropped, so a long window of frequent samples covers less time
MAX_SERIES = 20_000


class FigureReducers:
    """Stores the figures of rules whose reducer is not `last`. A restart loses them: windows then start empty."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, int, AlertLabels], deque[tuple[float, float]]] = {}
        self._touched: set[tuple[str, int, AlertLabels]] = set()

    def reduce_figure(self, rule: Rule, labels: AlertLabels, figure: Figure, now: float) -> Figure:
        """The figure that the rule compares; None while the newest one is unknown."""
        if rule.reducer == "last":
            return figure
        key = (rule.id, rule.version, labels)
        if key not in self._series and len(self._series) >= MAX_SERIES:
            return None
        series = self._series.setdefault(key, deque(maxlen=MAX_POINTS))
        self._touched.add(key)
        if series and now < series[-1][0]:
            series.clear()  # the clock was set back
        if figure is not None and not isinstance(figure, Idle):
            series.append((now, figure if isinstance(figure, AtLeast) else float(figure)))
        while series and now - series[0][0] > rule.window_s:
            series.popleft()
        if figure is None or isinstance(figure, Idle):
            return figure
        reduced = _reduce_values(rule.reducer, series)
        if reduced is None or not any(isinstance(value, AtLeast) for _, value in series):
            return reduced
        # The rate of a lower bound is unknown.
        return None if rule.reducer not in ("min", "max", "mean", "p95") else AtLeast(reduced)

    def fill_window(self, rule: Rule, labels: AlertLabels, points: Iterable[tuple[float, float]]) -> None:
        """Fill the window of `labels` with past figures, oldest first: (seconds since 1970, figure)."""
        self._series[rule.id, rule.version, labels] = deque(points, maxlen=MAX_POINTS)

    def drop_unused(self) -> None:
        """Drop the series that no rule has used since the last call."""
        for key in self._series.keys() - self._touched:
            del self._series[key]
        self._touched = set()


def _reduce_values(reducer: str, series: deque[tuple[float, float]]) -> float | None:
    values = [value for _, value in series]
    if not values:
        return None
    if reducer == "min":
        return min(values)
    if reducer == "max":
        return max(values)
    if reducer == "mean":
        return sum(values) / len(values)
    if reducer == "p95":
        return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]
    span_s = series[-1][0] - series[0][0]
    return (values[-1] - values[0]) * 60.0 / span_s if span_s > 0 else None
