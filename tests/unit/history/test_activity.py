"""Jobs of the last minutes, and those that are usual at an hour of the week."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dashboard.history.activity.clock_changes import were_clocks_set
from dashboard.history.activity.recent_jobs import LONGEST_S, RecentJobs
from dashboard.history.activity.usual_activity import (
    DAYS_S,
    STEP_S,
    WEEKS_S,
    WINDOWS_S,
    PastSlot,
    UsualFinder,
    compared_ranges,
    is_same_kind_of_day,
    jobs_in,
    step_of,
)
from dashboard.history.activity.watched_time import BRIDGED_S, WatchedTime
from dashboard.history.columns import CLASS, QUEUE, SeriesKind
from dashboard.history.series_keys import SeriesKey
from dashboard.history.slots import Slot
from dashboard.history.tiers import DAY_S, HOUR_S

MAIL = SeriesKey(QUEUE, "main", "rq", "mail")
SEND = SeriesKey(CLASS, "main", "rq", "mail", "send")
MONDAY_S = 1_689_552_000  # 2023-07-17 00:00 UTC: no clocks were set for months
AT = MONDAY_S + 10 * HOUR_S


def past(
    kind: SeriesKind, at_s: int, jobs: Callable[[int], int | None], workers: int | None = 3
) -> dict[int, PastSlot]:
    """The slots that are compared at a moment; `jobs` in the slot that begins at so many seconds."""
    ranges = compared_ranges(kind, at_s, at_s, (*WEEKS_S, *DAYS_S))
    return {
        start_s: PastSlot(jobs(start_s), workers)
        for begin_s, end_s in ranges
        for start_s in range(begin_s, end_s, step_of(kind))
    }


def office_hours(start_s: int) -> int:
    """30 jobs in each quarter from Monday to Friday, 9:00 to 17:00 UTC."""
    day, second = divmod(start_s - MONDAY_S, DAY_S)
    return 30 if day % 7 < 5 and 9 * HOUR_S <= second < 17 * HOUR_S else 0


def test_each_hour_of_the_week_is_compared_with_itself() -> None:
    for hour in range(7 * 24):
        at_s = MONDAY_S + hour * HOUR_S
        usual = UsualFinder(QUEUE, past(QUEUE, at_s, office_hours)).find(at_s)
        quarter, whole_hour, two_hours = usual.jobs
        assert quarter is not None
        assert whole_hour is not None
        assert two_hours is not None
        is_open = hour // 24 < 5 and 9 < hour % 24 <= 17
        assert quarter.jobs == (30 if is_open else 0), hour
        assert whole_hour.jobs == (120 if is_open else 0)
        # A quarter of an hour earlier or later is not always as busy.
        assert (quarter.lowest > 0) is (hour // 24 < 5 and 9 < hour % 24 < 17), hour
        assert quarter.is_weekly
        assert usual.workers is not None
        assert usual.workers[:2] == (3, 3)


@pytest.mark.parametrize("kind", [QUEUE, CLASS])
def test_no_morning_is_missed_in_the_week_after_the_clocks_were_set(kind: SeriesKind) -> None:
    begins_s = 1_698_649_200  # 2023-10-30 07:00 UTC, the Monday after: 9:00 in Berlin was at 7:00 UTC until then
    shared = 8 * HOUR_S  # at which both hours are busy

    def berlin(start_s: int) -> int:
        day, second = divmod(start_s - begins_s, DAY_S)
        return 30 if day % 7 < 5 and second < 8 * HOUR_S else 0

    for later_s in range(STEP_S, shared + 2 * HOUR_S, STEP_S):
        at_s = begins_s + later_s
        for window_s, usual in zip(
            WINDOWS_S[kind], UsualFinder(kind, past(kind, at_s, berlin)).find(at_s).jobs, strict=True
        ):
            assert usual is not None
            now_busy_s = min(later_s, shared + HOUR_S) - max(later_s - window_s, HOUR_S)
            assert now_busy_s > 0 or usual.lowest < 0.25 * usual.jobs or not usual.jobs, later_s
    assert not were_clocks_set(AT, AT - DAY_S * 7)
    assert were_clocks_set(begins_s, begins_s - DAY_S * 7)


def test_classes_are_compared_in_slots_of_two_hours() -> None:
    def jobs(start_s: int) -> int:
        return 8 * office_hours(start_s)

    # At 10:30 on a Monday, the slot from 8:00 counts for three quarters of the time.
    for after_s, usual_jobs, lowest in ((12 * HOUR_S, 240, 240), (10.5 * HOUR_S, 60, 0)):
        at_s = MONDAY_S + int(after_s)
        (usual,) = UsualFinder(CLASS, past(CLASS, at_s, jobs)).find(at_s).jobs
        assert usual == (usual_jobs, lowest, True)


def test_weeks_are_compared_if_two_are_stored_and_days_if_three_are() -> None:
    def since(days: float, jobs: int = 10) -> Callable[[int], int | None]:
        return lambda start_s: jobs if start_s >= AT - days * DAY_S else None

    for days, weekly in ((30, True), (15, True), (13, False), (6, False), (3, None)):
        usual = UsualFinder(QUEUE, past(QUEUE, AT, since(days))).find(AT).jobs[0]
        assert (None if usual is None else usual.is_weekly) is weekly, days
    saturday_s = AT + 5 * DAY_S
    assert UsualFinder(QUEUE, past(QUEUE, saturday_s, since(0))).find(saturday_s).jobs[0] is None, "five weekdays"
    assert is_same_kind_of_day(saturday_s, saturday_s + DAY_S)
    assert not is_same_kind_of_day(saturday_s, saturday_s + 2 * DAY_S)


def test_one_quiet_week_and_gaps() -> None:
    def jobs(start_s: int) -> int | None:
        week = (AT - start_s) // (7 * DAY_S)
        return {1: 0, 2: None}.get(week, 40)

    usual = UsualFinder(QUEUE, past(QUEUE, AT, jobs)).find(AT).jobs[0]
    assert usual is not None
    assert (usual.jobs, usual.lowest) == (40, 0), "a holiday"
    assert UsualFinder(QUEUE, {}).find(AT).jobs == (None, None, None)


@pytest.mark.parametrize(
    ("cells", "sampled_s", "jobs"),
    [
        ({"enqueued": 7, "finished": 5}, 900, 7),
        ({"finished": 5}, 900, 5),
        ({"finished": 5}, 600, None),
        ({"finished": 5, "uncounted_ms": 400_000}, 900, None),
        ({"depth": 5}, 900, None),
        (None, 0, None),
    ],
)
def test_the_jobs_of_a_slot(cells: dict[str, int] | None, sampled_s: int, jobs: int | None) -> None:
    slot = Slot(AT, sampled_s * 1000, None if cells is None else tuple(cells.get(name) for name in QUEUE.names))
    assert jobs_in(QUEUE, slot, 720_000) == jobs


def test_watched_time_is_bridged_and_broken() -> None:
    times = WatchedTime()
    assert not times.is_known(AT)
    times.add(AT, AT + 10, None)
    assert not times.is_known(AT + 10)
    times.add(AT + 10, AT + 20, 0)
    assert times.quiet == (10, True), "nothing is known of the time before"
    times.add(AT + 20, AT + 30, 3)
    times.add(AT + 30 + BRIDGED_S, AT + 40 + BRIDGED_S, 0)
    assert times.quiet == (10 + BRIDGED_S, False)
    assert times.watched_s == 30 + BRIDGED_S
    times.add(AT - 3600, AT - 3590, 0)  # the clock was set back
    assert times.quiet == (20 + BRIDGED_S, False)
    assert not times.breaks
    times.add(AT, AT + 10, 0)
    assert times.quiet == (10, True), "an hour without figures"
    assert times.breaks == 1
    assert times.is_known(AT + 10 + BRIDGED_S)
    assert not times.is_known(AT + 11 + BRIDGED_S)


def run(recent: RecentJobs, start_s: int, end_s: int, jobs: int) -> None:
    for at in range(start_s, end_s, 10):
        recent.close_minutes(at)
        recent.add_queue(MAIL, at - 10, at, jobs, None)
        recent.watch_classes(SEND[1:4], at - 10, at)
        recent.add_class(SEND, jobs)


def test_jobs_of_the_last_minutes_are_counted_in_whole_minutes() -> None:
    recent = RecentJobs()
    run(recent, AT, AT + LONGEST_S + 600, 1)
    for key in (MAIL, SEND):
        assert [recent.count_jobs(key, window_s) for window_s in (900, 3600, 7200)] == [90, 360, 720]
    run(recent, AT + LONGEST_S + 600, AT + LONGEST_S + 1500, 0)
    recent.close_minutes(AT + LONGEST_S + 1500)
    assert [recent.count_jobs(MAIL, window_s) for window_s in (900, 3600)] == [0, 270]
    assert recent.quiet_of(MAIL) == recent.quiet_of(SEND) == (900, False)
    for hour in range(3):  # minutes without samples are forgotten, too
        recent.close_minutes(AT + 2 * LONGEST_S + hour * HOUR_S)
    assert recent.count_jobs(MAIL, 7200) == 0
    recent.forget(lambda _: False)
    assert recent.times_of(MAIL) is recent.times_of(SEND) is None


def test_a_clock_that_is_set_back_neither_loses_nor_keeps_jobs() -> None:
    recent = RecentJobs()
    run(recent, AT, AT + 900, 1)
    run(recent, AT - 3600, AT - 3600 + 900, 0)
    recent.close_minutes(AT - 3600 + 900)
    assert recent.count_jobs(MAIL, 900) <= 6
    assert recent.count_jobs(MAIL, 3600) == 90
    run(recent, AT - 2700, AT + 900, 0)
    assert recent.count_jobs(MAIL, 3600) == 0
    assert STEP_S == 900
