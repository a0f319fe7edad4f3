"""Why a job is not running, from figures alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dashboard.clock import instant
from dashboard.model import Counts, Job, JobLink, QueueStats, State
from dashboard.web.views.waiting_reasons import explain_not_running

NOW = 1_800_000_000.0


def job(state: State, **fields: Any) -> Job:
    return Job(id="1", source="main", backend="x", queue="mails", state=state, **fields)


def queue(**fields: Any) -> QueueStats:
    return QueueStats(
        source="main", backend="x", name="mails", key="mails", **{"workers": 2, "paused": False, **fields}
    )


def told(job: Job, queue: QueueStats) -> list[str]:
    return [reason.text for reason in explain_not_running(job, queue, NOW)]


@pytest.mark.parametrize("state", [State.ACTIVE, State.DEAD, State.COMPLETED, State.CANCELED, None])
def test_a_job_that_runs_or_has_ended_needs_no_reason(state: Any) -> None:
    assert told(job(state), queue(paused=True, workers=0)) == []


def test_what_needs_a_person_comes_first() -> None:
    waiting = job(State.WAITING, facts=(("Position", "12 ahead"),))
    reasons = explain_not_running(waiting, queue(paused=True, workers=0, counts=Counts(active=3)), NOW)
    assert [reason.blocks for reason in reasons] == [True, True, False]
    assert [reason.text for reason in reasons] == [
        "The queue is paused.",
        "No worker processes this queue.",
        "12 jobs are ahead of it; 3 are running.",
    ]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("next", "It is next in the queue."),
        ("1 ahead", "1 job is ahead of it."),
        ("1,204 ahead", "1,204 jobs are ahead of it."),
        ("unknown; not among the first jobs", "Its position is unknown; not among the first jobs."),
    ],
)
def test_a_position_is_a_sentence(place: str, sentence: str) -> None:
    assert told(job(State.WAITING, facts=(("Position", place),)), queue()) == [sentence]


def test_unknown_workers_are_no_missing_workers() -> None:
    assert told(job(State.WAITING), queue(workers=None)) == ["The number of workers is unknown."]


def test_a_scheduled_job_says_when_and_an_overdue_one_how_late() -> None:
    soon, late = instant(NOW + 90), instant(NOW - 90)
    assert told(job(State.SCHEDULED, scheduled_for=soon), queue()) == ["It is due in 1\u202fm 30\u202fs."]
    (reason,) = explain_not_running(job(State.SCHEDULED, scheduled_for=late), queue(), NOW)
    assert reason.blocks
    assert "1\u202fm 30\u202fs" in reason.text
    assert told(job(State.RETRYING, scheduled_for=soon), queue()) == ["It will be retried in 1\u202fm 30\u202fs."]


def test_a_queued_job_that_is_not_due_yet_says_when() -> None:
    in_line = {"facts": (("Position", "next"),)}
    reasons = told(job(State.WAITING, scheduled_for=instant(NOW + 90), **in_line), queue())
    assert reasons == ["It is scheduled to start in 1\u202fm 30\u202fs.", "It is next in the queue."]
    assert told(job(State.WAITING, scheduled_for=instant(NOW - 90), **in_line), queue()) == ["It is next in the queue."]


def test_a_parent_counts_unfinished_and_failed_children() -> None:
    children = tuple(
        JobLink(id=str(n), queue="q", state=state) for n, state in enumerate([State.COMPLETED, None, State.DEAD])
    )
    (reason,) = explain_not_running(job(State.BLOCKED, children=children), queue(), NOW)
    assert (reason.text, reason.blocks) == ("It is waiting for 2 other jobs.", True)
    assert told(job(State.BLOCKED), queue()) == ["It is waiting for other jobs."]


def test_limits_and_clock_differences_are_named() -> None:
    at = instant(NOW)
    assert at is not None
    skewed = job(State.WAITING, enqueued_at=at + timedelta(seconds=30))
    assert told(skewed, queue(notes=("rate limited for 7 s",))) == [
        "The queue is rate limited for 7 s.",
        "It was enqueued 30\u202fs in the future.",
    ]


def test_a_lost_job_waits_for_no_worker() -> None:
    (reason,) = explain_not_running(job(State.WAITING, abandoned=True), queue(workers=0, paused=True), NOW)
    assert reason.text == "No worker will pick it up: it is no longer in the queue."
    assert reason.blocks
