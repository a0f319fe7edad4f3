"""How late a schedule is, from what its library records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard.backends.sidekiq.cron_expression import missed_run
from dashboard.model import Schedule
from dashboard.sampling.live_lists import LiveRows
from dashboard.schedules.lateness import late_s
from dashboard.schedules.schedule_watch import watched_schedules

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"id": "nightly", "source": "main", "backend": "rq", "kind": "cron", **fields})


@pytest.mark.parametrize(
    ("fields", "late"),
    [
        ({"next_run_at": ago(400)}, 400.0),
        ({"next_run_at": ago(-5)}, 0.0),
        ({"next_run_at": ago(400), "paused": True}, 0.0),
        ({"next_run_at": None, "last_run_at": ago(400), "pattern": "every 300 s"}, 100.0),
        ({"next_run_at": None, "last_run_at": ago(400), "pattern": "every 300 s", "ended": True}, 0.0),
        ({"next_run_at": None, "last_run_at": ago(400), "pattern": f"every {'9' * 12} s"}, None),
        ({"next_run_at": None, "last_run_at": ago(400), "pattern": "*/5 * * * *"}, None),
        ({"next_run_at": None, "pattern": "every 300 s"}, None),
        ({"next_run_at": ago(-3000), "missed_at": ago(600)}, 600.0),
    ],
)
def test_lateness_follows_what_the_library_records(fields: dict[str, Any], late: float | None) -> None:
    assert late_s(schedule(**fields), NOW.timestamp()) == late


def test_a_cron_run_is_missed_only_if_the_time_zone_is_certain_and_it_is_past_the_grace() -> None:
    last = datetime(2026, 11, 29, 3, 0, 10, tzinfo=UTC)
    due = datetime(2026, 11, 30, 3, tzinfo=UTC)
    assert missed_run("0 3 * * * UTC", last, due + timedelta(seconds=91)) == due
    assert missed_run("0 3 * * *", last, due + timedelta(seconds=91)) == due  # the last run shows that it is UTC
    assert missed_run("0 3 * * * UTC", last, due + timedelta(seconds=89)) is None
    assert missed_run("0 3 * * *", last + timedelta(hours=2), NOW) is None
    assert missed_run("every day at noon", last, NOW) is None


def test_runs_that_a_pause_skipped_are_not_missed_after_it() -> None:
    row = schedule(next_run_at=ago(-3600), missed_at=ago(7200))
    for paused_at, late in ((ago(8000), 7200.0), (ago(7000), 0.0)):
        found = watched_schedules(
            LiveRows((row,), (("other", "rq", "down"),), 0, 0, 0.0),
            lambda _source: NOW.timestamp(),
            {("main", "rq", None, "nightly"): paused_at.timestamp()},
        )
        assert [each.late_s for each in found.schedules] == [late]
        assert found.unread == {("other", "rq")}


def test_names_that_cannot_be_stored_are_replaced() -> None:
    rows = (schedule(id="a\udcff", name="x\udcff"), schedule(id="b" * 3000))
    found = watched_schedules(LiveRows(rows, (), 0, 0, 0.0), lambda _source: 0.0).schedules
    assert [len(each.id) for each in found] == [32, 32]
    for each in found:
        assert f"{each.id}{each.title}".encode()
