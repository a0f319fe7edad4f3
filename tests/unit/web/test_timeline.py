"""The timeline of a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard.model import Job, State, TimelineEvent
from dashboard.web.views.jobs.timeline import AXIS, MIN_BAR, story

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def job(*events: tuple[float, str], **fields: Any) -> Job:
    timeline = tuple(TimelineEvent(at=at(seconds), event=event) for seconds, event in events)
    return Job(id="1", source="main", backend="rq", queue="mail", timeline=timeline, **fields)


def test_bars_share_one_axis_and_distinguish_waiting_from_running() -> None:
    told = story(job((0, "enqueued"), (60, "started"), (70, "attempt failed"), (90, "started"), (100, "completed")))
    assert [(step.kind, step.x, step.width) for step in told.steps] == [
        ("", 0, 0),
        ("wait", 0, 600),
        ("run", 600, 100),
        ("wait", 700, 200),
        ("run", 900, 100),
    ]
    assert [step.mark for step in told.steps] == ["", "", "bad", "", "good"]
    assert [step.since_s for step in told.steps] == [None, 60, 10, 20, 10]
    assert told.total_s == 100


def test_moments_are_put_in_order() -> None:
    assert [step.event.event for step in story(job((5, "failed"), (0, "enqueued"))).steps] == ["enqueued", "failed"]


def test_a_short_step_can_be_seen_and_stays_on_the_axis() -> None:
    last = story(job((0, "enqueued"), (10_000, "started"), (10_000.01, "completed"))).steps[-1]
    assert last.width == MIN_BAR
    assert last.x + last.width <= AXIS


def test_a_job_without_a_timeline_shows_its_timestamps() -> None:
    told = story(job(state=State.DEAD, enqueued_at=at(0), started_at=at(2), finished_at=at(5)))
    assert [step.event.event for step in told.steps] == ["enqueued", "started", "failed"]
    assert (told.waited_s, told.ran_s) == (2, 3)


def test_unknown_times_are_not_shown() -> None:
    assert story(job()).steps == ()
    assert story(job()).total_s is None
    backwards = story(job(started_at=at(5), finished_at=at(2)))
    assert backwards.ran_s is None
    assert backwards.waited_s is None


def test_moments_at_one_time_have_no_bars() -> None:
    assert [step.width for step in story(job((0, "enqueued"), (0, "started"))).steps] == [0, 0]
