"""What is a mark, which page shows it, and what it is the cause of."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Severity
from dashboard.errors import Unsupported
from dashboard.history.columns import CLASS, QUEUE, SOURCE
from dashboard.history.series_keys import SeriesKey
from dashboard.marks.mark_reader import MarkBefore, MarkList, UnreadMarks, find_mark_before
from dashboard.marks.new_mark import MAX_LINK, MAX_TEXT, build_mark, is_link
from dashboard.model import Mark
from dashboard.web.views.charts.chart_marks import MOST_OF_A_KIND, ChartMarks, collect_marks

NOW = 1_796_000_000.0
MAIL = AlertLabels(source="main", backend="rq", queue="mail")
TITLES = {"rq": "RQ", "sidekiq": "Sidekiq"}
PAGES = {
    "all": SeriesKey(QUEUE),
    "mail": SeriesKey(QUEUE, "main", "rq", "mail"),
    "redis": SeriesKey(SOURCE, "main"),
    "send": SeriesKey(CLASS, "main", "rq", "mail", "app.send"),
}


def new_mark(text: str = "deploy", version: str = "v412", link: str | None = None, at: float | None = None) -> Mark:
    return build_mark(text, version, link, at, "anna", NOW)


def change(labels: AlertLabels, kind: str = "firing", at: float = NOW, **facts: Any) -> HistoryEntry:
    return HistoryEntry(
        kind=kind,
        episode="e",
        at=at,
        rule_id="deep",
        rule_name="Queue is too deep",
        metric="queue.depth",
        severity=Severity.CRITICAL,
        labels=labels,
        **facts,
    )


def labels_on(page: str, marks: tuple[Mark, ...] = (), *changes: HistoryEntry) -> list[str]:
    return [mark.label for mark in collect_marks(PAGES[page], MarkList(marks), changes, TITLES).shown]


def test_texts_are_one_line_and_secrets_are_masked() -> None:
    mark = new_mark("  new\n mail  server ", link=" https://ci.example/412 ")
    assert (mark.text, mark.link, mark.at, mark.who) == ("new mail server", "https://ci.example/412", NOW, "anna")
    assert (mark.label, mark.short_label) == ("new mail server v412", "v412")
    assert (new_mark("v412").label, new_mark(version="").short_label) == ("v412", "deploy")
    assert "hunter2" not in new_mark("redis://user:hunter2@host").text
    assert new_mark(link="https://ci.example/412?token=hunter2&x=1").link == "https://ci.example/412?token=••••••&x=1"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": " \n"}, "text: required"),
        ({"text": "x" * (MAX_TEXT + 1)}, "text: expected at most 200 characters, got 201"),
        ({"version": "x" * 61}, "version: expected at most 60"),
        ({"link": "https://h/" + "x" * MAX_LINK}, "link: expected at most 500"),
        ({"at": NOW + 3600}, "at: 1 h in the future. Here it is 2026-11-30T"),
        ({"at": NOW - 31 * 86_400}, "more than 30 days ago"),
        ({"at": float("nan")}, "more than 30 days ago"),
    ],
)
def test_what_is_no_mark_is_refused_with_its_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        new_mark(**fields)


def test_clocks_may_differ_by_a_minute() -> None:
    assert new_mark(at=NOW + 59).at == NOW + 59
    with pytest.raises(Unsupported):
        new_mark(at=NOW + 61)


@pytest.mark.parametrize(
    "link",
    [
        *("javascript:alert(1)", "ftp://h/x", "//h/x", "/x", "https://", "http://[", "https://user:pw@h/"),
        *("https://h/ x", "https://h\\@evil", "https://h/\u202e", "data:text/html,x", "JAVASCRIPT:alert(1)"),
    ],
)
def test_only_web_addresses_are_links(link: str) -> None:
    assert not is_link(link)
    with pytest.raises(Unsupported, match="link: expected a URL"):
        new_mark(link=link)


def test_an_error_is_after_the_last_mark_of_its_source_and_day() -> None:
    other = Mark(at=NOW - 60, text="4f2a1c3 Send mails", source="other", backend="sidekiq")
    marks = (Mark(at=NOW + 60, text="later"), other, Mark(at=NOW - 240, text="deploy"), Mark(at=NOW - 900, text="old"))
    found = find_mark_before(marks, NOW, {"main"})
    assert found is not None
    assert (found.mark.text, found.after_s) == ("deploy", 240.0)
    assert [MarkBefore(found.mark, after_s).shown_s for after_s in (9.5, 59.0, 235.0)] == [9.5, 59.0, 240.0]
    elsewhere = find_mark_before(marks, NOW, {"other"})
    assert elsewhere is not None
    assert elsewhere.mark is other
    assert find_mark_before(marks, None, {"main"}) is None
    assert find_mark_before(marks, NOW + 2 * 86_400, {"main"}) is None
    assert find_mark_before(marks, NOW - 1000, {"main"}) is None


def test_a_page_has_the_marks_and_alerts_that_concern_it() -> None:
    own = Mark(at=NOW - 5, text="deploy", version="v412", who="anna", id="1")
    library = Mark(at=NOW - 4, text="4f2a1c3 Send mails", source="other", backend="sidekiq")
    changes = (
        change(MAIL, at=NOW - 3),
        change(MAIL, "resolved", at=NOW - 2, lasted_s=720.0),
        change(AlertLabels(source="main", backend="rq", queue="cash"), at=NOW - 1),
        change(AlertLabels(source="main"), at=NOW),
        change(AlertLabels(source="other"), at=NOW + 1),
        change(AlertLabels(source="main", backend="sidekiq", queue="*"), at=NOW + 2),
    )
    mail = [
        "alert Queue is too deep: main fired",
        "alert Queue is too deep: mail resolved after 12 m",
        "alert Queue is too deep: mail fired",
        "deploy v412",
    ]
    assert labels_on("mail", (library, own), *changes) == mail
    assert labels_on("redis", (library, own), *changes) == [mail[0], mail[3]]
    everything = labels_on("all", (library, own), *changes)
    assert everything[0] == "alert Queue is too deep: all Sidekiq queues fired"
    assert len(everything) == 8


def test_a_page_has_a_bounded_number_of_lines_in_printable_text() -> None:
    marks = tuple(Mark(at=NOW - n, text="\u202e<b>" + "x" * 400) for n in range(100))
    changes = [change(MAIL, at=NOW - n) for n in range(100)]
    unread = (UnreadMarks("main", "sidekiq", "why"), UnreadMarks("other", "sidekiq", "why"))
    found: ChartMarks = collect_marks(PAGES["mail"], MarkList(marks, unread), changes, TITLES)
    assert (len(found.shown), found.hidden) == (2 * MOST_OF_A_KIND, 80)
    assert found.unread == unread[:1]
    assert all(mark.label.isprintable() and len(mark.label) < 300 for mark in found.shown)


def test_alerts_about_classes_and_errors_are_named_and_on_the_pages_that_they_concern() -> None:
    send, other = (replace(MAIL, job_class=name) for name in ("app.send", "app.other"))
    error, channel = AlertLabels(error="0" * 16, title="TimeoutError: no answer"), AlertLabels(channel="ops")
    changes = [change(labels) for labels in (send, other, MAIL, error, channel)]
    every = ["app.send", "app.other", "mail", "TimeoutError: no answer", "ops"]
    for page, subjects in {"all": every, "mail": every[:3], "send": ["app.send", "mail"], "redis": []}.items():
        assert labels_on(page, (), *changes) == [f"alert Queue is too deep: {each} fired" for each in subjects], page
