"""Values as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dashboard.web import formatting
from dashboard.web.formatting import anchor, duration, full, one_line, percent, printable, short, size, stamp


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (0.25, "0.25"),
        (0.001, "0"),
        (9.999, "10"),
        (42.06, "42.1"),
        (940, "940"),
        (999.4, "999"),
        (1000, "1k"),
        (12431, "12.4k"),
        (99949, "99.9k"),
        (99960, "100k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (3_100_000, "3.1M"),
        (7e15, "7000T"),
        (-12431, "-12.4k"),
    ],
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0001, "1 ms"),
        (0.24, "240 ms"),
        (0.9999, "1 s"),
        (3.21, "3.2 s"),
        (9.99, "10 s"),
        (59.6, "1 m"),
        (250, "4 m 10 s"),
        (3600, "1 h"),
        (4320, "1 h 12 m"),
        (273_600, "3 d 4 h"),
        (86400 * 400, "400 d"),
        (-90, "-1 m 30 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert plain(duration(seconds)) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0, "0%"), (0.0004, "<0.1%"), (0.004, "0.4%"), (0.1234, "12%"), (1, "100%")]
)
def test_percent(ratio: float, text: str) -> None:
    assert plain(percent(ratio)) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1024**2 - 1, "1 MiB"),
        (1_260_000, "1.2 MiB"),
        (150 * 1024**3, "150 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_size(count: float, text: str) -> None:
    assert plain(size(count)) == text


@pytest.mark.parametrize("function", [short, full, duration, percent, size])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_a_dash_and_never_a_zero(function: object, value: float | None) -> None:
    assert callable(function)
    assert function(value) == formatting.UNKNOWN


def test_full_keeps_every_digit_that_says_something() -> None:
    assert [full(value) for value in (12431, 0.25, 1234567.5, 100)] == ["12,431", "0.25", "1,234,567.5", "100"]


def test_an_instant_is_shown_in_utc() -> None:
    there = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert stamp(there) == "2026-01-01 23:30:00"
    assert stamp(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02 00:00:00"
    assert stamp(None) == formatting.UNKNOWN


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
