"""Values as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.clock import now_s
from dashboard.units import UNKNOWN
from dashboard.web.formatting import (
    HISTORY_S,
    alert_report_url,
    anchor,
    duration,
    format_moment,
    format_slot,
    interval,
    one_line,
    printable,
    size,
    time_ago,
)


def test_a_unit_stays_on_the_line_of_its_number() -> None:
    assert duration(4320) == "1\u202fh 12\u202fm"
    assert size(1_260_000) == "1.2\u202fMiB"
    assert duration(None) == size(None) == UNKNOWN
    assert (time_ago(0.068), time_ago(300)) == ("just now", "5\u202fm ago")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("every 60 s", "every 1 m"),
        ("every 90 s", "every 90 s"),
        ("every 0.25 s", "every 0.25 s"),
        ("every 86400 s", "every 1 d"),
        ("0 3 * * *", "0 3 * * *"),
        ("every 1e9 s", "every 1e9 s"),
        ("every hour", "every hour"),
    ],
)
def test_an_interval_has_its_largest_unit(pattern: str, text: str) -> None:
    assert interval(pattern) == text


def test_an_instant_is_shown_in_utc() -> None:
    there = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert format_moment(there) == "2026-01-01 23:30:00"
    assert format_moment(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02 00:00:00"
    assert format_moment(None) == UNKNOWN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße 日本 🎉", "Grüße 日本 🎉"),
        ("a\nb\tc", "a\nb\tc"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("bad \udcff byte", "bad \\xff byte"),
        ("invoice\u202efdp.exe", "invoice\\u202efdp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
    ],
)
def test_nothing_stays_invisible(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_text_is_truncated_at_the_limit() -> None:
    assert printable("abcdef", 3) == "abc…"
    assert printable("abc", 3) == "abc"
    assert one_line("  a \n\n b\t c ", 10) == "a b c"
    assert one_line("word " * 10_000_000, 20) == "word word word word …"


def test_anchors_are_plain_and_unique_per_name() -> None:
    names = [("main", "rq", "a"), ("main", "rqa", ""), ("main", "r", "qa"), ("main", "rq", "\udcff"), ("x" * 10_000,)]
    anchors = {anchor(*name) for name in names}
    assert len(anchors) == len(names)
    assert all(one.isalnum() and one[0].isalpha() and len(one) < 20 for one in anchors)


def test_an_alert_of_which_nothing_else_is_stored_has_no_report() -> None:
    ended_s = now_s() - HISTORY_S - 60
    assert alert_report_url(AlertLabels(), ended_s - 600, ended_s) is None


def test_a_slot_has_its_beginning_and_its_end() -> None:
    midnight = 1_764_028_800  # 2025-11-25
    cases = [
        (midnight + 8 * 3600, midnight + 10 * 3600, "2025-11-25 08:00–10:00"),
        (midnight - 7200, midnight, "2025-11-24 22:00–00:00"),
        (midnight - 7200, midnight + 7200, "2025-11-24 22:00–2025-11-25 02:00"),
        (midnight + 10, midnight + 20, "2025-11-25 00:00:10–00:00:20"),
    ]
    assert [format_slot(from_s, until_s) for from_s, until_s, _ in cases] == [text for *_, text in cases]
