"""What a leader remembers of schedules from one reading to the next."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dashboard.backends.monitored_sources import MonitoredSources
from dashboard.model import Schedule
from dashboard.sampling.live_lists import LiveRows
from dashboard.schedules import schedule_watch
from dashboard.schedules.schedule_watch import MAX_AGE_S, READ_EVERY_S, ScheduleWatch, WatchedSchedules
from tests.unit.alerts.factories import sample
from tests.unit.schedules.test_lateness import NOW, ago, schedule
from tests.waiting import wait_until

MISSED = schedule(pattern="0 3 * * *", missed_at=ago(7200), next_run_at=ago(-3600))


class Clocks:
    """The clock of every source, and that of the process."""

    def __init__(self) -> None:
        self.monotonic = 1000.0

    def now_s(self, source: str) -> float:
        del source
        return NOW.timestamp()


class Readings:
    """A watch on schedules that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clocks = Clocks()
        self.rows: LiveRows[Schedule] = LiveRows((), (), 0, 0, 0.0)
        monkeypatch.setattr(schedule_watch, "monotonic_s", lambda: self.clocks.monotonic)
        monkeypatch.setattr(schedule_watch, "read_live_rows", lambda *_args: self.rows)
        self.watch = ScheduleWatch(cast("MonitoredSources", self.clocks))

    def read(self, *rows: Schedule, problems: tuple[tuple[str, str, str], ...] = ()) -> list[float | None]:
        """How late the schedules are by the next reading."""
        self.rows = LiveRows(rows, problems, 0, 0, 0.0)
        before, self.clocks.monotonic = self.look(), self.clocks.monotonic + READ_EVERY_S
        found = wait_until(lambda: (now := self.look()) is not before and now, what="a reading")
        assert isinstance(found, WatchedSchedules)
        return [each.late_s for each in found.schedules]

    def look(self) -> Any:
        return self.watch.look(sample([]))


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Readings(monkeypatch)
    yield made
    made.watch.stop()


def test_what_was_read_long_ago_is_unknown(readings: Readings) -> None:
    assert readings.read(MISSED) == [7200.0]
    assert readings.look() is not None
    readings.clocks.monotonic += MAX_AGE_S + 1
    assert readings.look() is None, "another process led since"
    assert wait_until(readings.look, what="the next reading").schedules


def test_runs_that_a_schedule_had_not_planned_then_are_not_missed(readings: Readings) -> None:
    changed = schedule(pattern="0 5 * * *", missed_at=ago(7200), next_run_at=ago(-3600))
    assert readings.read(MISSED) == [7200.0]
    assert readings.read(changed) == [0.0], "a deploy moved it from 3 to 5 o'clock"
    assert readings.read(problems=(("main", "rq", "down"),)) == []
    assert readings.read(changed) == [0.0], "a reading that failed forgets nothing"
    assert readings.read(schedule(pattern="0 5 * * *", missed_at=ago(-1))) == [0.0]
