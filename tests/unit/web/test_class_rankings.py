"""Rankings of classes: computed once, in a thread, while viewers get the last one."""

from __future__ import annotations

import threading

import pytest

from dashboard.errors import BackendUnavailable
from dashboard.history.classes.changes import ClassChange, figures_of
from dashboard.history.classes.ranking import ClassKey, ClassRanking, ClassRow
from dashboard.history.classes.totals import ClassTotals
from dashboard.history.classes.windows import choose_windows
from dashboard.model import Quality
from dashboard.web.class_rankings import ClassRankings, RankingQuery
from tests.waiting import CEILING_S, wait_until

NOW_S = 1_700_000_500.0
HOUR, MONTH = RankingQuery("1h"), RankingQuery("30d")
FIGURES = figures_of(ClassTotals(60_000, Quality.EXACT, 1, 0, {}))
ROW = ClassRow(
    ClassKey("main", "rq", "mail", "send"), ("mail",), FIGURES, None, ClassChange(), None, None, ClassChange(), None
)


class Reader:
    """Reads a ranking of as many rows as `rows` once it may."""

    def __init__(self, rows: int = 1) -> None:
        self.may_read = threading.Event()
        self.may_read.set()
        self.rows = rows
        self.asked: list[tuple[RankingQuery, float]] = []
        self.problem: Exception | None = None

    def __call__(self, wanted: RankingQuery, now_s: float) -> ClassRanking:
        self.asked.append((wanted, now_s))
        assert self.may_read.wait(CEILING_S)
        if self.problem:
            raise self.problem
        return ClassRanking(choose_windows(3600, now_s), (ROW,) * self.rows)


def test_a_ranking_is_read_once_for_each_slot() -> None:
    reader = Reader()
    rankings = ClassRankings(reader)
    for now_s in (NOW_S, NOW_S, NOW_S + 300, NOW_S + 901):
        assert rankings.find(HOUR, now_s, CEILING_S) is not None
    wait_until(lambda: len(reader.asked) == 2, what="the ranking of the next slot")
    for now_s in (NOW_S, NOW_S + 901):
        assert rankings.find(MONTH, now_s, CEILING_S) is not None
    assert len(reader.asked) == 3  # a month is read again after an hour


def test_a_viewer_waits_for_a_while_and_then_gets_none_or_the_last_ranking() -> None:
    reader = Reader()
    rankings = ClassRankings(reader)
    reader.may_read.clear()
    assert rankings.find(HOUR, NOW_S, 0.0) is None
    assert rankings.find(HOUR, NOW_S, 0.0) is None
    reader.may_read.set()
    first = rankings.find(HOUR, NOW_S, CEILING_S)
    assert first is not None
    assert len(reader.asked) == 1
    reader.may_read.clear()
    assert rankings.find(HOUR, NOW_S + 900, 0.0) is first
    assert rankings.find(HOUR, NOW_S + 86_400, 0.0) is None  # too old to be shown
    reader.may_read.set()
    wait_until(lambda: rankings.find(HOUR, NOW_S + 900, 0.0) is not first, what="the new ranking")


def test_moments_in_the_same_slot_share_a_ranking() -> None:
    reader = Reader()
    rankings = ClassRankings(reader)
    start_s = 1_699_999_200.0
    for since_s in (start_s + 1, start_s + 899, start_s + 450.5):
        assert rankings.find(HOUR._replace(since_s=since_s), NOW_S, CEILING_S) is not None
    assert len(reader.asked) == 1
    assert rankings.find(HOUR._replace(since_s=start_s), NOW_S, CEILING_S) is not None
    assert [wanted.since_s for wanted, _ in reader.asked] == [start_s + 1, start_s]


def test_neither_an_error_nor_an_empty_ranking_is_remembered() -> None:
    reader = Reader(rows=0)
    rankings = ClassRankings(reader)
    reader.problem = BackendUnavailable("gone", source="main", reason="lost")
    with pytest.raises(BackendUnavailable):
        rankings.find(HOUR, NOW_S, CEILING_S)
    reader.problem = None
    for _ in range(2):
        assert rankings.find(HOUR, NOW_S, CEILING_S) is not None
    assert len(reader.asked) == 3


def test_the_last_error_is_raised_until_there_is_a_ranking() -> None:
    reader = Reader()
    rankings = ClassRankings(reader)
    reader.problem = BackendUnavailable("did not respond in time", source="main", reason="slow")
    with pytest.raises(BackendUnavailable):
        rankings.find(HOUR, NOW_S, CEILING_S)
    reader.may_read.clear()  # a frozen Redis: each attempt takes longer than a viewer waits
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="respond"):
            rankings.find(HOUR, NOW_S, 0.0)
    assert rankings.find(MONTH, NOW_S, 0.0) is None
    reader.problem = None
    reader.may_read.set()
    assert rankings.find(HOUR, NOW_S, CEILING_S) is not None
    reader.may_read.clear()
    assert rankings.find(HOUR, NOW_S + 86_400, 0.0) is None
    reader.may_read.set()
