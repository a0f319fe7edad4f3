"""Charts as SVG: readable axes, gaps that stay gaps, and the queues that changed most."""

from __future__ import annotations

import math

from dashboard.history.columns import QUEUE
from dashboard.history.series_keys import SeriesKey
from dashboard.history.slots import Slot
from dashboard.incidents.affected_queues import MOST_AFFECTED, rank_queues
from dashboard.incidents.scope import IncidentScope
from dashboard.web.views.charts.chart_data import ChartData, Values
from dashboard.web.views.charts.chart_marks import ChartMark
from dashboard.web.views.charts.charts import Chart, ChartLine
from dashboard.web.views.incidents.svg_axes import find_top, time_ticks, value_ticks
from dashboard.web.views.incidents.svg_chart import HEIGHT, WIDTH, SvgChart, draw_chart
from tests.cases import failures_of

DAY_S = 86_400
CHART = Chart("c", "Jobs", (ChartLine("depth", "waiting", "main", area=True), ChartLine("dead", "dead", "critical")))


def draw(depth: Values, dead: Values, *marks: ChartMark, start_s: int = 1000, step_s: int = 10) -> SvgChart:
    values = {"depth": depth, "dead": dead}
    data = ChartData(start_s=start_s, step_s=step_s, end_s=start_s + len(depth) * step_s, values=values)
    return draw_chart(CHART, data, marks)


def test_axes_have_readable_steps() -> None:
    def check(highest: float, unit: str, top: str, most: int) -> None:
        found, step = find_top(highest, unit)
        ticks = value_ticks(found, step, unit, HEIGHT)
        assert found >= min(highest, 1e15) * (1 - 1e-9)
        assert (ticks[0].at, ticks[-1].at) == (HEIGHT, 0.0)
        assert ticks[-1].text == top
        assert 2 <= len(ticks) <= most

    cases = [
        (0.0, "jobs", "1", 6),
        (7, "jobs", "8", 6),
        (44, "jobs", "60", 6),
        (1204, "jobs", "1.5k", 6),
        (0.031, "ratio", "4%", 6),
        (1.0, "ratio", "100%", 6),
        (90.0, "s", "1 m 30 s", 6),
        (0.0031, "s", "4 ms", 6),
        (200_000.0, "s", "3 d", 6),
        (256 * 2**20, "bytes", "300 MiB", 6),
        (math.inf, "jobs", "1000T", 6),
    ]
    assert failures_of(check, cases) == {}


def test_times_are_full_hours_or_days_and_not_too_many() -> None:
    night = 20_000 * DAY_S + 22 * 3600 + 100
    hours = time_ticks(night, night + 6 * 3600, WIDTH)
    assert [tick.text for tick in hours] == ["23:00", "5 Oct", "01:00", "02:00", "03:00", "04:00"]
    for length_s in (900, 3600, DAY_S, 2 * DAY_S, 7 * DAY_S, 30 * DAY_S):
        ticks = time_ticks(night, night + length_s, WIDTH)
        assert 2 <= len(ticks) <= 7, length_s
        assert all(0 <= tick.at <= WIDTH for tick in ticks)


def test_a_gap_stays_a_gap_and_the_highest_value_has_its_time() -> None:
    mark = ChartMark(at_s=1030, kind="mark", tone="main", label="v1")
    found = draw([1, 4, None, None, 2], [None] * 5, mark, ChartMark(at_s=2000, kind="mark", tone="main", label="later"))
    waiting, dead = found.lines
    assert waiting.path == "M48 112.5L144 0M432 75h0"
    assert waiting.area.count("z") == 2
    assert (dead.path, dead.area) == ("", "")
    assert waiting.summary == (4, 1010, 1020, 2, 20)
    assert dead.summary == (None, None, None, None, 50)
    assert found.gaps == ((192.0, 192.0),)
    assert [(each.x, each.mark.label) for each in found.marks] == [(288.0, "v1")]
    assert not found.is_empty
    assert draw([None], [None]).is_empty


def test_hostile_figures_stay_in_the_chart() -> None:
    found = draw([10**400, -5, 1e308], [0, 0, 0])
    assert "inf" not in found.lines[0].path
    assert "nan" not in found.lines[0].path
    assert f"{HEIGHT}" in found.lines[0].path


def slot(start_s: int, depth: int | None, failed: int | None = 0) -> Slot:
    cells: list[int | None] = [None] * len(QUEUE.columns)
    for name, value in (("depth", depth), ("finished", 10), ("failed", failed)):
        cells[QUEUE.index_of(name)] = value
    return Slot(start_s, 1000, tuple(cells))


def test_the_most_affected_queues_come_first_and_calm_ones_are_left_out() -> None:
    gap = Slot(20, 0, None)
    of = {
        SeriesKey(QUEUE, "main", "rq", "calm"): [slot(10, 5), gap, slot(30, 5)],
        SeriesKey(QUEUE, "main", "rq", "grew"): [slot(10, 5), gap, slot(30, 25), slot(40, 25), slot(50, 7)],
        SeriesKey(QUEUE, "main", "rq", "failed"): [slot(10, None, 100), gap],
        SeriesKey(QUEUE, "main", "rq", "unknown"): [gap, slot(30, None, None)],
    }
    found = rank_queues(of, 10, 9)
    assert [queue.key.name for queue in found.queues] == ["failed", "grew"]
    assert found.queues[0][1:] == (None, None, None, None, None, 10, 100)
    assert found.queues[1][1:] == (5, 25, 30, 40, 7, 40, 0)
    assert (found.hidden, found.examined, found.known) == (0, 4, 9)
    many = {SeriesKey(QUEUE, "main", "rq", str(n)): [slot(10, 0), slot(20, n)] for n in range(1, 40)}
    assert (len(rank_queues(many, 10, 39).queues), rank_queues(many, 10, 39).hidden) == (
        MOST_AFFECTED,
        39 - MOST_AFFECTED,
    )


def test_a_scope_covers_what_it_names() -> None:
    everything, redis, queue = IncidentScope(), IncidentScope("a"), IncidentScope("a", "rq", "x")
    assert [scope.covers("a", "rq", "x") for scope in (everything, redis, queue)] == [True, True, True]
    assert [scope.covers("a", "rq", "y") for scope in (everything, redis, queue)] == [True, True, False]
    assert [scope.covers("b", "rq", "x") for scope in (everything, redis, queue)] == [True, False, False]
    assert queue.series == SeriesKey(QUEUE, "a", "rq", "x")
    assert redis.series == SeriesKey(QUEUE, "a")
