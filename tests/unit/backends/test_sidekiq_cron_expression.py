"""When a cron expression comes due; the instants are those that fugit 1.14.0 tells."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dashboard.backends.sidekiq.cron_expression import next_run, parse_cron

NOW = datetime(2026, 10, 23, 12, 34, 56, tzinfo=UTC)  # a Friday; clocks in Berlin are set back on the 25th


def due(text: str, last: str | None = None, now: datetime = NOW) -> tuple[str | None, str | None]:
    """The next run as text, and the zone."""
    at, zone = next_run(text, datetime.fromisoformat(last).replace(tzinfo=UTC) if last else None, now)
    return (at.strftime("%Y-%m-%d %H:%M:%S") if at else None), zone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * * UTC", "2026-10-24 03:00:00"),
        ("0 3 * * * Europe/Berlin", "2026-10-24 01:00:00"),
        ("0 3 25 * * Europe/Berlin", "2026-10-25 02:00:00"),
        ("30 2 25 * * Europe/Berlin", "2026-10-25 00:30:00"),
        ("0 3 * * * +0530", "2026-10-23 21:30:00"),
        ("*/7 * * * * UTC", "2026-10-23 12:35:00"),
        ("10/20 * * * * UTC", "2026-10-23 12:50:00"),
        ("*/15 * * * * * UTC", "2026-10-23 12:35:00"),
        ("20,40 34 12 * * * UTC", "2026-10-24 12:34:20"),
        ("0 0 * * mon UTC", "2026-10-26 00:00:00"),
        ("0 0 * * 7 UTC", "2026-10-25 00:00:00"),
        ("0 0 * * fri-mon UTC", "2026-10-24 00:00:00"),
        ("0 0 1 * 3 UTC", "2026-10-28 00:00:00"),  # either is enough
        ("0 0 L * * UTC", "2026-10-31 00:00:00"),
        ("0 22-2 * * * UTC", "2026-10-23 22:00:00"),
        ("0 24 * * * UTC", "2026-10-24 00:00:00"),
        ("0 0 1 jan,MAR * UTC", "2027-01-01 00:00:00"),
        ("0 0 29 2 * UTC", "2028-02-29 00:00:00"),
        ("0 0 31 apr-may 0 UTC", "2027-05-02 00:00:00"),  # fugit forgets April
        ("@daily UTC", "2026-10-24 00:00:00"),
        ("@noon America/New_York", "2026-10-23 16:00:00"),
    ],
)
def test_an_expression_with_a_zone_is_sure(text: str, expected: str) -> None:
    assert due(text) == (expected, text.split()[-1])


def test_an_hour_that_comes_twice_or_never_is_as_clocks_show_it() -> None:
    night = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)
    assert due("30 2 * * * Europe/Berlin", now=night)[0] == "2026-10-25 01:30:00"  # the second 02:30
    assert due("30 2 * * * Europe/Berlin", now=datetime(2027, 3, 28, tzinfo=UTC))[0] == "2027-03-29 00:30:00"


@pytest.mark.parametrize(
    ("text", "last", "expected"),
    [
        ("0 3 * * *", "2026-10-23T03:00:12", "2026-10-24 03:00:00"),
        ("0 3 * * *", "2026-10-23T01:00:12", None),  # two hours east, today
        ("0 3 * * *", None, None),
        ("0 3 * * 1", "2026-10-19T03:00:12", "2026-10-26 03:00:00"),
        ("0 */6 * * *", "2026-10-23T12:00:29", "2026-10-23 18:00:00"),
        ("0 9,10 * * *", "2026-10-23T10:00:05", None),  # 9 o'clock elsewhere, or 10 o'clock here
        ("0 */6 * * 1", "2026-10-19T12:00:05", None),
        ("5 * * * *", "2026-10-23T12:05:10", "2026-10-23 13:05:00"),
        ("5 * * * *", None, None),  # some clocks differ by half an hour
        ("0 3 * * *", "2026-10-23T03:02:00", None),  # somebody started it by hand
    ],
)
def test_without_a_zone_the_last_run_decides(text: str, last: str | None, expected: str | None) -> None:
    assert due(text, last) == (expected, "UTC" if expected else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "12:35:00"),
        ("*/5 * * * *", "12:35:00"),
        ("*/10 * * * * *", "12:35:00"),
        ("*/15 * * * *", "12:45:00"),
    ],
)
def test_what_is_the_same_in_all_zones_needs_none(text: str, expected: str) -> None:
    assert due(text) == (f"2026-10-23 {expected}", None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "every 5 minutes", "@reboot", "* * * *", "* * * * * * * *", "60 * * * *", "* * 0 * *", "* * * 13 *"),
        *("* * * * 8", "*/0 * * * *", "1- * * * *", "a * * * *", "* * * * mon#1", "* * * * mon%2", "0~9 * * * *"),
        *(
            "0 0 30 2 * UTC",
            "0 0 * * 1& UTC",
            "0 0 * * * Europe/Nowhere",
            "0 0 * * * ../../etc/passwd",
            "0 0 * * * +9900",
        ),
        *("* " * 500, "\ud800 * * * *", "0 0 -1 * *", "99999999999 * * * *", "\u0663 * * * *"),
    ],
)
def test_what_is_not_understood_is_unknown(text: str) -> None:
    assert due(text, "2026-10-23T03:00:00") == (None, None)


def test_the_end_of_the_calendar_is_none() -> None:
    cron = parse_cron("0 0 1 1 * UTC")
    assert cron is not None
    assert cron.next_after(datetime(9999, 12, 31, tzinfo=UTC), UTC) is None
