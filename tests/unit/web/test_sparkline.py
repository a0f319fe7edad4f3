"""Sparklines: y from zero, gaps stay gaps."""

from __future__ import annotations

import re

import pytest

from dashboard.web.views.sparkline import line


def points(path: str) -> list[list[tuple[int, int]]]:
    """The path as runs of absolute points."""
    runs: list[list[tuple[int, int]]] = []
    for kind, x, y in re.findall(r"([Ml])(-?\d+) ?(-?\d+)", path):
        if kind == "M":
            runs.append([(int(x), int(y))])
        else:
            before = runs[-1][-1]
            runs[-1].append((before[0] + int(x), before[1] + int(y)))
    return runs


@pytest.mark.parametrize("nothing", [(), (None,), (None, None)])
def test_nothing_known_is_nothing_drawn(nothing: tuple[None, ...]) -> None:
    assert line(nothing, len(nothing), 100, 20) == ""


def test_the_line_spans_the_box_from_zero() -> None:
    assert points(line([0, 5, 10], 3, 100, 22, top=10)) == [[(0, 21), (50, 11), (100, 1)]]


def test_a_constant_stays_below_the_upper_edge_and_zero_lies_on_the_lower() -> None:
    (((_, first), *_),) = points(line([7, 7, 7], 3, 100, 22))
    assert 1 < first < 11
    assert points(line([0, 0], 2, 100, 22)) == [[(0, 21), (100, 21)]]


def test_a_gap_stays_a_gap_and_a_lone_point_is_a_dot() -> None:
    path = line([1, None, 1, 1], 4, 90, 22)
    assert [len(run) for run in points(path)] == [1, 2]
    assert path.startswith("M0 ")
    assert path.count("h0") == 2


def test_a_short_past_lies_at_the_right() -> None:
    (run,) = points(line([1, 1], 11, 100, 22))
    assert [x for x, _ in run] == [90, 100]
    assert points(line([1], 1, 100, 22))[0][0][0] == 100


def test_many_points_are_thinned_and_peaks_survive() -> None:
    values: list[float | None] = [0.0] * 10_000
    values[5_000] = 10.0
    path = line(values, len(values), 100, 22, top=10)
    (run,) = points(path)
    assert len(run) <= 50
    assert min(y for _, y in run) == 1
    assert len(path) < 500
