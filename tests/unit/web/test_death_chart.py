"""When the jobs of an error group died: what is counted in which bar, and what is not known."""

from __future__ import annotations

import pytest

from dashboard.errors import Unsupported
from dashboard.web.views.charts.chart_range import ChartRange
from dashboard.web.views.charts.death_chart import (
    FIGURE,
    MOST_BARS,
    DeathChart,
    build_death_chart,
    parse_death_range,
)

NOW = 1_796_000_010.0
HOUR = ChartRange(NOW - 3600, NOW, "1h")


def chart_of(*ages: float | None, complete_age: float | None = None, is_final: bool = True) -> DeathChart:
    times = [None if age is None else NOW - age for age in ages]
    return build_death_chart(times, HOUR, None if complete_age is None else NOW - complete_age, is_final=is_final)


@pytest.mark.parametrize(
    ("age", "name"), [(None, "15m"), (10, "15m"), (901, "1h"), (86_400, "24h"), (90_000, "2d"), (90 * 86_400, "30d")]
)
def test_the_range_begins_before_the_first_death(age: float | None, name: str) -> None:
    first = None if age is None else NOW - age
    assert parse_death_range(None, None, None, first, NOW).name == name
    assert parse_death_range("6h", None, None, first, NOW).name == "6h"
    zoomed = parse_death_range(None, NOW - 600, NOW - 300, first, NOW)
    assert (zoomed.start_s, zoomed.end_s, zoomed.name, zoomed.back) == (NOW - 600, NOW - 300, None, name)
    with pytest.raises(Unsupported):
        parse_death_range("1y", None, None, first, NOW)


def test_bars_count_deaths_and_name_what_they_leave_out() -> None:
    chart = chart_of(-90, 5.5, 1800, 4000, 90_000, None)  # the first one by a clock that is ahead
    data = chart.data
    assert data.step_s == 30
    assert data.start_s <= HOUR.start_s
    assert data.end_s >= NOW
    bars = data.values[FIGURE]
    assert sum(bar or 0 for bar in bars) == 3
    assert None not in bars
    assert (chart.earlier, chart.untimed, chart.complete_from) == (2, 1, None)
    assert [row.jobs for row in chart.rows] == [2, 1]  # newest first, only those with deaths
    for seconds in (60, 900, 30 * 86_400):
        wanted = ChartRange(NOW - seconds, NOW, None)
        bars = build_death_chart([NOW - 1], wanted, None, is_final=True).data.values[FIGURE]
        assert 10 < len(bars) <= MOST_BARS + 2
        assert sum(bar or 0 for bar in bars) == 1


def test_what_was_not_read_is_unknown_and_not_zero() -> None:
    chart = chart_of(100, 3000, complete_age=1800)
    bars = chart.data.values[FIGURE]
    before = [bar for slot, bar in enumerate(bars) if chart.data.start_s + slot * 30 < NOW - 1800]
    assert sorted(before, key=str) == [1, *[None] * (len(before) - 1)]
    assert None not in bars[len(before) :]
    assert chart.complete_from == NOW - 1800
    assert chart_of(100, complete_age=7200).complete_from is None  # earlier than the range
    assert set(chart_of(100, is_final=False).data.values[FIGURE]) == {None, 1}
