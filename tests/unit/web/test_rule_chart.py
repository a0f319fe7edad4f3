"""A figure against its thresholds, as it is drawn."""

from __future__ import annotations

import re

from dashboard.web.views.rule_chart import build_chart
from tests.unit.alerts.factories import rule

LOW = rule(metric="queue.throughput_per_min", op="lt", warning=2, critical=1)


def heights(path: str) -> list[int]:
    """From above, of each point."""
    found: list[int] = []
    for move, y in re.findall(r"([Ml])-?\d+ (-?\d+)", path):
        found.append(int(y) if move == "M" else found[-1] + int(y))
    return found


def test_a_gap_stays_a_gap_and_two_series_have_one_measure() -> None:
    drawn = build_chart(rule(critical=10), (5, None, 5), 3, 640, 160, (5, 20, 5))
    assert drawn.path.count("M") == 2
    assert heights(drawn.path)[0] == heights(drawn.behind)[0] > drawn.levels[0].y > heights(drawn.behind)[1]
    assert drawn.peak == 5
    assert build_chart(rule(critical=10), (5, 6), 2, 640, 160).behind == ""


def test_a_dip_is_not_lost_where_low_is_bad() -> None:
    points = (*[5] * 60, 0, *[5] * 60)
    drawn = build_chart(LOW, points, 121, 96, 24)
    assert max(heights(drawn.path)) == 23
    assert drawn.peak == 0
    assert max(heights(build_chart(rule(critical=10), points, 121, 96, 24).path)) < 23  # there the highest are kept


def test_what_is_far_above_does_not_press_low_thresholds_together() -> None:
    drawn = build_chart(LOW, (100_000, 1), 2, 640, 160)
    critical, warning = (level.y for level in drawn.levels)
    assert critical - warning >= 7
    assert heights(drawn.path)[0] == 1  # at the upper edge, within the picture
