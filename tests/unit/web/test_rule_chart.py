"""A figure against its thresholds, as it is drawn."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from dashboard.alerts.rules.rule import Rule
from dashboard.sampling.recent_history import Series
from dashboard.web.views.rule_chart import (
    LABEL_HEIGHT,
    MAX_TOP,
    ChartSeries,
    RuleChart,
    build_chart,
    build_small_chart,
    readable_step,
)
from tests.unit.alerts.factories import rule

LOW = rule(metric="queue.throughput_per_min", op="lt", warning=2, critical=1)


def heights(path: str) -> list[int]:
    """From above, of each point."""
    found: list[int] = []
    for move, y in re.findall(r"([Ml])-?\d+ (-?\d+)", path):
        found.append(int(y) if move == "M" else found[-1] + int(y))
    return found


def test_a_gap_stays_a_gap_and_two_series_have_one_measure() -> None:
    drawn = build_small_chart(rule(critical=10), (5, None, 5), 3, 640, 160, (5, 20, 5))
    assert drawn.path.count("M") == 2
    assert heights(drawn.path)[0] == heights(drawn.behind)[0] > drawn.levels[0].y > heights(drawn.behind)[1]
    assert drawn.peak == 5
    assert build_small_chart(rule(critical=10), (5, 6), 2, 640, 160).behind == ""


def test_a_dip_is_not_lost_where_low_is_bad() -> None:
    points = (*[5] * 60, 0, *[5] * 60)
    drawn = build_small_chart(LOW, points, 121, 96, 24)
    assert max(heights(drawn.path)) == 23
    assert drawn.peak == 0
    high_is_bad = build_small_chart(rule(critical=10), points, 121, 96, 24)
    assert max(heights(high_is_bad.path)) < 23  # there the highest are kept


def test_what_is_far_above_does_not_press_low_thresholds_together() -> None:
    drawn = build_small_chart(LOW, (100_000, 1), 2, 640, 160)
    critical, warning = (level.y for level in drawn.levels)
    assert critical - warning >= 7
    assert heights(drawn.path)[0] == 1  # at the upper edge, within the picture


@pytest.mark.parametrize(
    ("unit", "least", "readable"),
    [
        ("count", 0.2, 1),
        ("count", 21, 50),
        ("count", 100, 100),
        ("per_min", 0.03, 0.05),
        ("ratio", 0.011, 0.02),
        ("s", 70, 120),
        ("s", 901, 1800),
        ("s", 100_000, 172_800),
        ("bytes", 70_000, 131_072),
    ],
)
def test_steps_are_easy_to_read(unit: str, least: float, readable: float) -> None:
    assert readable_step(least, unit) == readable


def axis(rule: Rule, points: Series, **thresholds: float) -> RuleChart:
    return build_chart(rule, ChartSeries(points, 60), 640, 200, thresholds)


def test_an_axis_starts_at_zero_and_ends_above_all_that_is_shown() -> None:
    drawn = axis(rule(critical=1000), (10, 400), critical=1000.0)
    assert [tick.text for tick in drawn.ticks] == ["0", "500", "1k", "1.5k"]
    assert [tick.y for tick in drawn.ticks] == [199, 133, 67, 1]
    assert drawn.top == 1500
    assert drawn.step == 50
    (level,) = drawn.levels
    assert level.y == 67
    late = axis(rule(metric="queue.latency_s", critical=1800), (30,), critical=1800.0)
    assert [tick.text for tick in late.ticks] == ["0 s", "10 m", "20 m", "30 m", "40 m"]
    assert (
        axis(rule(metric="redis.persistence_failed", op="ge", critical=1), (0,), critical=1.0).ticks[-1].text == "yes"
    )


def test_a_share_ends_at_all_of_it() -> None:
    ratio = rule(metric="queue.error_ratio", critical=0.95)
    assert axis(ratio, (0.5,), critical=0.95).top == 1


def test_without_thresholds_there_is_room_to_set_some() -> None:
    assert axis(rule(), (40,)).top >= 60
    assert axis(rule(), (0, 0)).top >= 10
    assert axis(rule(metric="queue.latency_s", critical=1), ()).path == ""


def test_labels_of_close_thresholds_do_not_overlap() -> None:
    for thresholds in ({"critical": 101.0, "warning": 100.0}, {"critical": 0.2, "warning": 0.1}, {"critical": 1e6}):
        levels = axis(rule(critical=1), (1,), **thresholds).levels
        heights = sorted(level.label_y for level in levels)
        assert all(8 <= height <= 192 for height in heights)
        assert all(other - one >= LABEL_HEIGHT for one, other in pairwise(heights))


def test_no_figure_is_too_large_to_draw() -> None:
    drawn = axis(rule(critical=1), (1e308, 1), critical=1e308)
    assert drawn.top <= 2 * MAX_TOP
    assert heights(drawn.path)[0] == 1


def test_further_series_have_the_same_measure() -> None:
    series = ChartSeries((10, 10), 2, others=(((20, 20), 2), ((None, None), 2)))
    drawn = build_chart(rule(critical=1), series, 640, 200, {"critical": 1.0})
    (other,) = drawn.others
    assert heights(other)[0] < heights(drawn.path)[0]
