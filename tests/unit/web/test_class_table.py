"""The class list: which rows, in which order, on which page, and its words."""

from __future__ import annotations

import pytest

from dashboard.errors import Unsupported
from dashboard.history.classes.changes import ClassChange, Regression, figures_of
from dashboard.history.classes.ranking import ClassKey, WindowTotals, rank_classes
from dashboard.history.classes.totals import ClassTotals
from dashboard.history.classes.windows import choose_windows
from dashboard.history.histogram import add_durations
from dashboard.model import Quality
from dashboard.web.views.classes.class_table import ClassQuery, ClassTable, build_class_table
from dashboard.web.views.classes.class_words import (
    class_period,
    errors_text,
    failed_jobs_query,
    speed_text,
    why_no_change,
)

NOW_S = 1_700_000_500.0


def totals(jobs: int | None, failed: int | None = 0, runtime_s: float | None = 1.0) -> ClassTotals:
    runtimes: dict[int, int] = {}
    if runtime_s is not None and jobs:
        add_durations(runtimes, [runtime_s], jobs)
    return ClassTotals(3_600_000, Quality.EXACT, jobs, failed, runtimes)


def key(name: str, queue: str = "mail", backend: str = "rq", source: str = "main") -> ClassKey:
    return ClassKey(source, backend, queue, name)


RANKING = rank_classes(
    choose_windows(3600, NOW_S),
    {
        key("slower"): WindowTotals(totals(30, 0, 3.0), totals(30)),
        key("Often", "cash"): WindowTotals(totals(900, 9, 0.5), totals(900, 9, 0.5)),
        key("failing", source="other"): WindowTotals(totals(40, 8, 0.1), totals(40, 0, 0.1)),
        key("untimed", "*", "sidekiq"): WindowTotals(totals(60, None, None), totals(60)),
        key("unknown"): WindowTotals(totals(None, None), totals(1)),
    },
)


def ask(args: dict[str, str], per_page: int = 50) -> ClassTable:
    return build_class_table(RANKING, ClassQuery.of(args, None, NOW_S), per_page)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, ["failing", "slower", "Often", "untimed", "unknown"]),
        ({"dir": "up"}, ["unknown", "untimed", "Often", "slower", "failing"]),
        ({"sort": "name"}, ["failing", "Often", "slower", "unknown", "untimed"]),
        ({"sort": "rate"}, ["Often", "untimed", "failing", "slower", "unknown"]),
        (
            {"sort": "rate", "dir": "up"},
            ["slower", "failing", "untimed", "Often", "unknown"],
        ),  # unknown last, both ways
        ({"sort": "failed"}, ["Often", "failing", "slower", "untimed", "unknown"]),
        ({"sort": "errors"}, ["failing", "Often", "slower", "untimed", "unknown"]),
        ({"sort": "p95"}, ["slower", "Often", "failing", "untimed", "unknown"]),
        ({"sort": "trend"}, ["slower", "failing", "Often", "untimed", "unknown"]),
        ({"sort": "share"}, ["Often", "slower", "failing", "untimed", "unknown"]),
        ({"sort": "nonsense", "page": "-1"}, ["failing", "slower", "Often", "untimed", "unknown"]),
        ({"q": " CAS "}, ["Often"]),
        ({"library": "sidekiq"}, ["untimed"]),
        ({"source": "other"}, ["failing"]),
        ({"queue": "cash"}, ["Often", "untimed"]),  # Sidekiq counts for all queues together
        ({"queue": "cash", "library": "rq"}, ["Often"]),
    ],
)
def test_rows_are_those_of_the_url_in_its_order(args: dict[str, str], expected: list[str]) -> None:
    assert [row.key.job_class for row in ask(args).rows] == expected


def test_pages_do_not_overlap_and_the_last_one_is_for_all_beyond_it() -> None:
    pages = [ask({"page": str(number)}, 2) for number in (1, 2, 3, 99)]
    assert [(page.first, page.last, page.total, page.pages, page.worse) for page in pages] == [
        (1, 2, 5, 3, 2),
        (3, 4, 5, 3, 2),
        *[(5, 5, 5, 3, 2)] * 2,
    ]


def test_the_url_of_a_query_leads_to_the_same_query() -> None:
    for args in (
        {},
        {"range": "7d", "q": "a b", "library": "rq", "source": "main", "queue": "mail", "group": "class", "since": "5"},
        {"sort": "p95", "dir": "up", "page": "3"},
        {"sort": "name"},
    ):
        since_s = 5.0 if "since" in args else None
        query = ClassQuery.of(args, since_s, NOW_S)
        assert {name: str(value) for name, value in query.args(page=query.page).items()} == args
    assert ClassQuery.of({}, None, NOW_S).sorted_by("p95") == {"sort": "p95"}
    assert ClassQuery.of({"sort": "p95"}, None, NOW_S).sorted_by("p95") == {"sort": "p95", "dir": "up"}
    with pytest.raises(Unsupported, match="expected one of 1h"):
        ClassQuery.of({"range": "2d"}, None, NOW_S)


def test_changes_are_in_words() -> None:
    assert [speed_text(ClassChange(ratio)) for ratio in (3.06, 12.3, 1.1, 0.5, None)] == [
        *("3.1x slower", "12x slower", "same", "2.0x faster", ""),
    ]
    assert errors_text(ClassChange(None, 0.123, (Regression.FAILING,))) == "errors +12%"
    assert errors_text(ClassChange(None, 0.04)) == ""
    assert [class_period(name) for name in ("1h", "30d")] == ["hour", "30 days"]


def test_unknown_changes_have_a_reason() -> None:
    enough, few, untimed, idle = (figures_of(each) for each in (totals(20), totals(19), totals(20, 0, None), totals(0)))
    assert why_no_change(enough, enough, is_stored=False) == "the period before is not stored"
    assert why_no_change(few, enough, is_stored=True) == "fewer than 20 jobs in this period"
    assert why_no_change(enough, idle, is_stored=True) == "no jobs in the period before"
    assert why_no_change(enough, None, is_stored=True) == "no jobs in the period before"
    assert why_no_change(untimed, enough, is_stored=True) == "no run times in this period"


def test_failed_jobs_are_searched_for_by_names_that_a_search_can_have() -> None:
    assert failed_jobs_query(key("a b")) == 'name:"a b" state:dead library:"rq" source:"main" queue:"mail"'
    assert failed_jobs_query(key("A", "*")) == 'name:"A" state:dead library:"rq" source:"main"'
    for name in ('a"b', "a\nb", "\udcff", "", "(other classes)"):
        assert failed_jobs_query(key(name)) is None
