"""The heat map: every queue at its place, the worst kept when there are too many, and everything said in words."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.model import Snapshot, SourceStats, State
from dashboard.sampling.recent_history import History
from dashboard.web.views.overview import heat_map
from dashboard.web.views.overview.heat_map import HeatMap, build_heat_map
from dashboard.web.views.overview.overview_data import OverviewData
from dashboard.web.views.overview.queue_table import QueueTableQuery
from tests.unit.web.test_queue_table import queue

TITLES = {"rq": "RQ", "bullmq": "BullMQ"}


def build(*queues: Any, down: bool = False, taken_at: dict[str, float] | None = None, **args: str) -> HeatMap:
    source = SourceStats(name="main", address="redis://127.0.0.1:6379/0", reachable=not down)
    snapshot = Snapshot(
        sampled_at=1000.0, interval_s=2, sequence=1, sampler="", epoch=0, sources=(source,), queues=queues
    )
    overview = OverviewData(snapshot, History(), taken_at=taken_at or {})
    return build_heat_map(overview, QueueTableQuery.of(args), TITLES)


def cells(found: HeatMap) -> dict[str, str]:
    return {cell.name: cell.css for group in found.groups for cell in group.cells}


def test_queues_stay_by_name_whatever_happens_to_them() -> None:
    calm = [queue("b", depth=0), queue("a", depth=0), queue("c", depth=0, backend="bullmq")]
    worse = [queue("b", depth=9999, workers=0), queue("a", depth=3), queue("c", depth=0, backend="bullmq")]
    for queues in (calm, worse):
        found = build(*queues)
        assert [(group.backend, [cell.name for cell in group.cells]) for group in found.groups] == [
            ("bullmq", ["c"]),
            ("rq", ["a", "b"]),
        ]
    assert cells(build(*calm)) == {"a": "s0", "b": "s0", "c": "s0"}
    assert cells(build(*worse)) == {"a": "s1", "b": "s4 critical", "c": "s0"}


@pytest.mark.parametrize(
    ("fields", "css", "label"),
    [
        ({"depth": 1200, "workers": 0}, "s4 critical", "mails (RQ): 1,200 waiting, critical: no worker"),
        ({"depth": 9, "workers": 2}, "s1", "mails (RQ): 9 waiting"),
        ({"depth": 0, "paused": True}, "s0 paused", "mails (RQ): 0 waiting, paused"),
        ({"depth": 5, "paused": True}, "s1 warning", "mails (RQ): 5 waiting, warning: paused"),
        ({"depth": None}, "s0 unknown", "mails (RQ): waiting unknown"),
        ({"depth": 10, "at_least": (State.WAITING,)}, "s2", "mails (RQ): 10+ waiting"),
        ({"depth": None, "error": "x"}, "s0 critical unknown", "mails (RQ): waiting unknown, critical: unreadable"),
        ({"depth": 20_000}, "s5", "mails (RQ): 20,000 waiting"),
    ],
)
def test_a_cell_says_what_it_shows(fields: dict[str, Any], css: str, label: str) -> None:
    (cell,) = build(queue("mails", **fields)).groups[0].cells
    assert (cell.css, cell.label) == (css, label)


def test_figures_from_before_an_outage_are_not_shown_as_current() -> None:
    (cell,) = build(queue("mails", depth=7), down=True, taken_at={"main": 900.0}).groups[0].cells
    assert (cell.css, cell.label) == ("s1 unknown", "mails (RQ): 7 waiting, last known")
    (cell,) = build(queue("mails", depth=7), down=True).groups[0].cells
    assert cell.label == "mails (RQ): 7 waiting, unknown"


def test_of_too_many_queues_the_worst_have_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat_map, "MAX_CELLS", 4)
    healthy = [queue(f"h{number}", depth=number) for number in range(6)]
    found = build(*healthy, queue("z", depth=1, workers=0))
    assert list(cells(found)) == ["h0", "h1", "h2", "z"]
    assert (found.total, found.rest) == (7, "3 more healthy queues")
    assert found.groups[0].count == 7
    bad = [queue(f"w{number}", depth=1, workers=0) for number in range(6)]
    assert build(*bad, queue("a", depth=1)).rest == "3 more queues, 2 of them with problems"
    assert build(*bad[:5]).rest == "1 more queue, with problems"
    assert build(*healthy, q="h5").rest == ""


def test_the_filters_of_the_table_apply() -> None:
    found = build(queue("mail"), queue("video"), queue("mail", backend="bullmq"), q="ma", library="rq")
    assert [(group.backend, group.count) for group in found.groups] == [("rq", 1)]
    assert found.total == 1
    assert QueueTableQuery.of({"view": "heat", "q": "ma"}).args(q="") == {"view": "heat"}
    assert QueueTableQuery.of({"view": "nonsense"}).args() == {}


def test_names_are_as_large_as_there_is_room() -> None:
    densities = [build(*(queue(f"q{n}") for n in range(count))).density for count in (60, 61, 301)]
    assert densities == ["roomy", "named", "dense"]


def test_a_hostile_name_is_one_part_of_the_address() -> None:
    (cell,) = build(queue("a/b <i>\udcff\u202e")).groups[0].cells
    assert cell.path == "main/rq/a%2Fb%20%3Ci%3E%FF%E2%80%AE"
    assert "\u202e" not in cell.label
    assert "\\u202e" in cell.label
