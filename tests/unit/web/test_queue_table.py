"""The queue table: which rows, in which order, on which page."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.model import Counts, QueueStats, Snapshot
from dashboard.sampling.recent_history import History
from dashboard.web.views.overview.overview_data import OverviewData
from dashboard.web.views.overview.queue_table import MAX_TEXT, PER_PAGE, QueueTable, QueueTableQuery, build_table


def queue(name: str, **fields: Any) -> QueueStats:
    return QueueStats(**{"source": "main", "backend": "rq", "name": name, "key": name, **fields})


QUEUES = (
    queue("b", depth=5, latency_s=3.0, counts=Counts(dead=2)),
    queue("A", depth=None, counts=Counts(dead=0)),
    queue("c", depth=9, workers=0),
    queue("d", depth=0, backend="bullmq", throughput_per_min=3.0),
    queue("e", depth=5, source="other", paused=True),
)


def names(found: QueueTable) -> list[str]:
    return [row.queue.name for group in found.groups for row in group.rows]


def overview(*queues: QueueStats) -> OverviewData:
    return OverviewData(
        Snapshot(sampled_at=1000.0, interval_s=2, sequence=1, sampler="", epoch=0, sources=(), queues=queues), History()
    )


def ask(**args: str) -> QueueTable:
    return build_table(overview(*QUEUES), QueueTableQuery.of(args))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, ["c", "e", "b", "A", "d"]),  # no worker, paused, then the fullest
        ({"dir": "up"}, ["d", "A", "b", "e", "c"]),
        ({"sort": "name"}, ["A", "b", "c", "d", "e"]),
        ({"sort": "name", "dir": "down"}, ["e", "d", "c", "b", "A"]),
        ({"sort": "waiting"}, ["c", "b", "e", "d", "A"]),
        ({"sort": "waiting", "dir": "up"}, ["d", "b", "e", "c", "A"]),  # unknown last, both ways
        ({"sort": "oldest"}, ["b", "A", "c", "d", "e"]),
        ({"sort": "rate"}, ["d", "A", "b", "c", "e"]),
        ({"sort": "dead"}, ["b", "A", "c", "d", "e"]),
        ({"sort": "nonsense", "dir": "nonsense", "page": "-1"}, ["c", "e", "b", "A", "d"]),
        ({"q": " a "}, ["A"]),
        ({"library": "bullmq"}, ["d"]),
        ({"source": "other"}, ["e"]),
        ({"library": "bullmq", "source": "other"}, []),
        ({"group": "library", "sort": "name"}, ["d", "A", "b", "c", "e"]),
    ],
)
def test_order_and_filter(args: dict[str, str], expected: list[str]) -> None:
    assert names(ask(**args)) == expected


def test_groups_sum_what_is_known() -> None:
    groups = ask(group="library").groups
    assert [(group.title, group.queues, group.depth, group.dead) for group in groups] == [
        ("bullmq", 1, 0, None),
        ("rq", 4, 19, 2),
    ]


def test_pages() -> None:
    many = [queue(f"q{n:04}", depth=n) for n in range(PER_PAGE * 2 + 1)]
    first = build_table(overview(*many), QueueTableQuery.of({"sort": "name"}))
    assert (first.page, first.pages, first.first, first.last, first.total) == (1, 3, 1, PER_PAGE, len(many))
    last = build_table(overview(*many), QueueTableQuery.of({"sort": "name", "page": "99"}))
    assert (last.page, last.first, last.last) == (3, len(many), len(many))
    assert names(last) == [many[-1].name]
    assert last.most_waiting == len(many) - 1  # the scale is that of all queues, not of the page
    none = build_table(overview(), QueueTableQuery())
    assert (none.pages, none.first, none.last, none.total) == (1, 0, 0, 0)


@pytest.mark.parametrize("page", ["", "0", "-3", "x", "1.5", "٣", "9" * 400])
def test_a_page_that_is_no_number_is_the_first(page: str) -> None:
    assert QueueTableQuery.of({"page": page}).page == 1


def test_an_url_carries_only_what_differs_from_the_default() -> None:
    query = QueueTableQuery.of({"q": "mail", "sort": "dead", "page": "3"})
    assert query.args() == {"q": "mail", "sort": "dead"}
    assert query.args(page=4) == {"q": "mail", "sort": "dead", "page": 4}
    assert query.args(q="", sort="trouble") == {}
    assert QueueTableQuery.of({"q": "x" * 10_000}).q == "x" * MAX_TEXT


def test_a_second_click_on_a_column_turns_it_round() -> None:
    query = QueueTableQuery()
    for column, first, second in (("waiting", {}, {"dir": "up"}), ("name", {}, {"dir": "down"})):
        once = query.sorted_by(column)
        assert once == {"sort": column, **first}
        clicked = QueueTableQuery.of({name: str(value) for name, value in once.items()})
        assert clicked.sorted_by(column) == {"sort": column, **second}


def test_queries_that_show_different_tables_have_different_keys() -> None:
    queries = [{}, {"q": "a"}, {"library": "a"}, {"source": "a"}, {"group": "source"}, {"sort": "name"}, {"dir": "up"}]
    queries.append({"page": "2"})
    assert len({QueueTableQuery.of(args).key for args in queries}) == len(queries)
