"""Run times of the last minutes, and those that are usual."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from dashboard.history.columns import CLASS, QUEUE, SOURCE, Cells
from dashboard.history.histogram import Histogram, add_durations
from dashboard.history.recorder import HistoryRecorder
from dashboard.history.run_times import LEAST_SLOTS, RECENT_S, RecentRunTimes, usual_p95
from dashboard.history.series_keys import SeriesKey
from dashboard.history.slots import Slot
from dashboard.model import ClassFlow, Quality
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

MAIL = SeriesKey(QUEUE, "main", "rq", "mail")
SEND = SeriesKey(CLASS, "main", "rq", "mail", "send")
AT = 1_700_000_040.0  # a full minute
BUCKET = 0.06  # a percentile is at most so far away from the duration at its rank


def times(duration_s: float, count: int = 1) -> Histogram:
    found: Histogram = {}
    add_durations(found, [duration_s], count)
    return found


def test_only_whole_minutes_of_the_last_quarter_count() -> None:
    recent = RecentRunTimes()
    recent.add(MAIL, AT, times(1.0, 30))
    assert not recent.p95s(), "the minute has not ended"
    recent.add(SEND, AT + 60, times(8.0, 5))
    assert recent.p95s() == {MAIL: (pytest.approx(1.0, rel=BUCKET), 30)}
    recent.add(MAIL, AT + 120, times(4.0, 10))
    recent.close_minutes(AT + 180)
    assert recent.p95s() == {
        MAIL: (pytest.approx(4.0, rel=BUCKET), 40),
        SEND: (pytest.approx(8.0, rel=BUCKET), 5),
    }
    recent.close_minutes(AT + RECENT_S + 60)
    assert recent.p95s()[MAIL] == (pytest.approx(4.0, rel=BUCKET), 10)
    recent.close_minutes(AT + RECENT_S + 180)
    assert not recent.p95s()


def test_a_clock_that_is_set_back_forgets_nothing_for_ever() -> None:
    recent = RecentRunTimes()
    recent.add(MAIL, AT + 3600, times(1.0))
    recent.add(MAIL, AT, times(2.0))  # an hour back
    recent.close_minutes(AT + 60)
    assert recent.p95s() == {MAIL: (pytest.approx(2.0, rel=BUCKET), 1)}
    recent.close_minutes(AT + 2 * RECENT_S)
    assert not recent.p95s()


def slots(*runs: tuple[float, int] | None) -> Sequence[Slot]:
    """Hours with so many jobs that took so long; None is a gap."""
    return [Slot(hour * 3600, 3_600_000, None if run is None else cells(*run)) for hour, run in enumerate(runs)]


def cells(duration_s: float, count: int) -> Cells:
    return tuple(times(duration_s, count) if name == "runtimes" else None for name in QUEUE.names)


def test_the_usual_run_time_is_the_median_of_the_hours_with_enough_jobs() -> None:
    assert usual_p95(QUEUE, slots((2.0, 100), (2.1, 100), (30.0, 100), None, (9.0, 3))) == pytest.approx(
        2.1, rel=BUCKET
    )
    assert usual_p95(QUEUE, slots(*[(2.0, 100)] * (LEAST_SLOTS - 1), (2.0, 9))) is None
    assert usual_p95(QUEUE, []) is None


def test_the_recorder_passes_run_times_on() -> None:
    recent = RecentRunTimes()
    recorder = HistoryRecorder(run_times=recent)
    for second in range(0, 62, 2):
        sends = ClassFlow(job_class="send", completed=1, dead=0, runtimes_s=(9.0,))
        flow = replace(flow_of("mail", 1, 0, 3.0), classes=(sends,), classes_quality=Quality.EXACT)
        recorder.add_sample(snapshot_of(AT + second, queue_row("mail", 1)), flows_of(flow))
    found = recent.p95s()
    assert found[MAIL] == (pytest.approx(3.0, rel=BUCKET), 29)  # the first sample counts nothing
    assert found[SEND] == (pytest.approx(9.0, rel=BUCKET), 29)
    assert not any(key.kind is SOURCE for key in found)
