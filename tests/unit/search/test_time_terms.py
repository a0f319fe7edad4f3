"""Times in a search: which moment is meant, and of which time of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dashboard.errors import Unsupported
from dashboard.model import Job, JobError, Searched, State
from dashboard.search.query import FIELDS, SearchTerm, parse_query
from dashboard.search.time_terms import TIMES, read_moment


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOW = at("2026-11-29T04:30:00").timestamp()


def job(**fields: Any) -> Searched:
    return Searched(job=Job(id="1", source="main", backend="rq", queue="mail", **fields), text="")


def matches(query: str, **fields: Any) -> bool:
    return parse_query(query).matches_row(job(**fields), NOW)


@pytest.mark.parametrize(
    ("text", "moment", "end"),
    [
        ("2026-11-29", "2026-11-29T00:00", "2026-11-30T00:00"),
        ("2026-11-29T03:00", "2026-11-29T03:00", "2026-11-29T03:00"),
        ("2026-11-29 03:00:05", "2026-11-29T03:00:05", "2026-11-29T03:00:05"),
        ("2026-11-29t03:00z", "2026-11-29T03:00", "2026-11-29T03:00"),
        ("2026-11-29T03:00+02:00", "2026-11-29T01:00", "2026-11-29T01:00"),
        ("03:00", "2026-11-29T03:00", "2026-11-29T03:00"),
        ("23:59:59", "2026-11-29T23:59:59", "2026-11-29T23:59:59"),
        ("-2h", "2026-11-29T02:30", "2026-11-29T02:30"),
        ("-1h30m", "2026-11-29T03:00", "2026-11-29T03:00"),
        ("+45m", "2026-11-29T05:15", "2026-11-29T05:15"),
    ],
)
def test_a_moment(text: str, moment: str, end: str) -> None:
    assert read_moment(text, NOW) == at(moment).timestamp()
    assert read_moment(text, NOW, is_end=True) == at(end).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-13-01",
        "2026-11-31",
        "25:00",
        "3:00",
        "2h",
        "-",
        "--2h",
        "-2x",
        "20261129",
        "2026-W48",
        "٠٣:٠٠",
        "2026-11-29T03",
        "2026-11-29T03:00+99:00",
        "0000-01-01",
        "-" + "9" * 400 + "h",
    ],
)
@pytest.mark.parametrize("field", ["from", "to"])
def test_an_invalid_time_says_how_to_write_one(field: str, text: str) -> None:
    with pytest.raises(Unsupported, match=f"Invalid time: {field}:") as caught:
        parse_query(f"{field}:{text}")
    assert "UTC" in str(caught.value.hint)


def test_the_extreme_times_of_the_calendar_are_times() -> None:
    assert not matches("from:9999-12-31", enqueued_at=at("2026-11-29T03:00"))
    assert matches("to:9999-12-31 from:0001-01-01T00:00+23:59", enqueued_at=at("2026-11-29T03:00"))


def test_a_range_includes_its_start_and_a_day_as_a_whole() -> None:
    early, late = at("2026-11-28T00:00"), at("2026-11-28T23:59:59")
    assert matches("from:2026-11-28 to:2026-11-28", enqueued_at=early)
    assert matches("from:2026-11-28 to:2026-11-28", enqueued_at=late)
    assert not matches("from:2026-11-28 to:2026-11-28", enqueued_at=at("2026-11-29T00:00"))
    assert not matches("to:2026-11-28T00:00", enqueued_at=early)
    assert not matches("from:2026-11-28T00:01", enqueued_at=early)


def test_by_chooses_the_time_and_enqueued_is_the_default() -> None:
    assert set(TIMES) == {"enqueued", "started", "finished", "failed", "due"}
    times = {"enqueued_at": at("2026-11-29T01:00"), "started_at": at("2026-11-29T02:00")}
    times |= {"finished_at": at("2026-11-29T03:00"), "scheduled_for": at("2026-11-29T05:00")}
    for by, hour in (("", 1), ("by:enqueued ", 1), ("by:started ", 2), ("by:finished ", 3), ("by:due ", 5)):
        wanted = f"{by}from:2026-11-29T0{hour}:00 to:2026-11-29T0{hour}:01"
        assert matches(wanted, **times), wanted
        assert [other for other in (1, 2, 3, 5) if matches(wanted.replace(f"T0{hour}", f"T0{other}"), **times)] == [
            hour
        ]


def test_failed_is_the_end_of_a_failed_run_only() -> None:
    ended = at("2026-11-29T03:00")
    error = JobError(class_name="Boom")
    assert matches("by:failed from:2026-11-29", finished_at=ended, state=State.DEAD)
    assert matches("by:failed from:2026-11-29", finished_at=ended, state=State.SCHEDULED, error=error)
    assert not matches("by:failed from:2026-11-29", finished_at=ended, state=State.COMPLETED, error=error)
    assert not matches("by:failed from:2026-11-29", finished_at=ended, state=State.WAITING)


def test_a_job_whose_time_is_unknown_never_matches() -> None:
    assert not matches("from:2000-01-01")
    assert not matches("-from:2000-01-01")
    assert not matches("by:due to:2100-01-01", enqueued_at=at("2026-11-29T03:00"))


def test_a_bound_can_be_excluded() -> None:
    assert matches("-from:2026-11-29", enqueued_at=at("2026-11-28T03:00"))
    assert not matches("-from:2026-11-29", enqueued_at=at("2026-11-29T03:00"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("by:yesterday from:-2h", "Invalid time: by:yesterday"),
        ("by:finished", "by:finished needs from: or to:"),
        ("by:finished by:due from:-2h", "Only one by:"),
        ("-by:finished from:-2h", "Only one by:"),
        ("from:-1h to:-2h", "from: is not before to:"),
        ("from:2026-11-29T03:00 to:2026-11-29T03:00", "from: is not before to:"),
    ],
)
def test_a_range_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        parse_query(text)


def test_quoted_it_is_text() -> None:
    assert parse_query('"from:bob" "by:anna"').terms == (SearchTerm("from:bob"), SearchTerm("by:anna"))
    assert {"from", "to", "by"} <= set(FIELDS)
