"""Why a job is not running, from figures alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dashboard.actions.pauses import PauseRecord, RecordedPauses
from dashboard.clock import instant
from dashboard.model import Counts, Job, JobLink, QueueStats, RateLimit, State
from dashboard.web.views.jobs.waiting_reasons import explain_not_running, explain_pause

NOW = 1_800_000_000.0


def job(state: State, **fields: Any) -> Job:
    return Job(id="1", source="main", backend="x", queue="mails", state=state, **fields)


def queue(**fields: Any) -> QueueStats:
    return QueueStats(
        source="main", backend="x", name="mails", key="mails", **{"workers": 2, "paused": False, **fields}
    )


def reasons_of(job: Job, queue: QueueStats) -> list[str]:
    return [reason.text for reason in explain_not_running(job, queue, NOW)]


@pytest.mark.parametrize("state", [State.ACTIVE, State.DEAD, State.COMPLETED, State.CANCELED, None])
def test_a_running_or_finished_job_has_no_reasons(state: Any) -> None:
    assert reasons_of(job(state), queue(paused=True, workers=0)) == []


def test_reasons_that_need_manual_action_come_first() -> None:
    waiting = job(State.WAITING, jobs_ahead=12)
    reasons = explain_not_running(waiting, queue(paused=True, workers=0, counts=Counts(active=3)), NOW)
    assert [reason.blocks for reason in reasons] == [True, False]
    assert [reason.text for reason in reasons] == [
        "The queue is paused.",
        "12 jobs are ahead of it; 3 are running.",
    ]


@pytest.mark.parametrize("state", [State.WAITING, State.SCHEDULED])
def test_nobody_is_told_to_start_workers_for_a_paused_queue(state: State) -> None:
    late = job(state, scheduled_for=instant(NOW - 90))
    reasons = explain_not_running(late, queue(paused=True, workers=0), NOW)
    assert reasons[0].page == "queue"
    assert not any("worker" in f"{reason.text} {reason.advice}".lower() for reason in reasons)
    assert explain_not_running(late, queue(paused=False, workers=0), NOW)[0].page == "workers"


def test_a_pause_names_who_paused_when_and_what_prevents_a_resume() -> None:
    paused = queue(paused=True)
    anna = RecordedPauses({"main\0x\0mails": PauseRecord(who="anna", at=NOW - 3 * 3600)})
    assert explain_pause(paused, anna, NOW).text == "The queue was paused by anna 3\u202fh ago."
    assert explain_pause(paused, RecordedPauses({}), NOW).text == "The queue was paused outside Queuedeck."
    assert explain_pause(paused, None, NOW).text == "The queue is paused."
    told = explain_pause(paused, anna, NOW, "Its Redis user may only read.")
    assert (told.page, told.advice) == (None, "Resume it where it was paused. Its Redis user may only read.")


@pytest.mark.parametrize(
    ("ahead", "sentences"),
    [
        (0, ["It is next in the queue."]),
        (1, ["1 job is ahead of it."]),
        (1204, ["1,204 jobs are ahead of it."]),
        (None, []),
    ],
)
def test_the_position_is_a_sentence_if_it_is_known(ahead: int | None, sentences: list[str]) -> None:
    assert reasons_of(job(State.WAITING, jobs_ahead=ahead), queue()) == sentences


def test_the_limit_of_an_unknown_position_is_shown() -> None:
    deep = job(State.WAITING, facts=(("Position", "unknown; not among the first or last 50,000 jobs"),))
    assert reasons_of(deep, queue()) == ["Its position is unknown; not among the first or last 50,000 jobs."]


def test_an_unknown_number_of_workers_is_not_zero_workers() -> None:
    assert reasons_of(job(State.WAITING), queue(workers=None)) == ["The number of workers is unknown."]


def test_a_scheduled_job_is_due_in_a_time_or_overdue_by_one() -> None:
    soon, late = instant(NOW + 90), instant(NOW - 90)
    assert reasons_of(job(State.SCHEDULED, scheduled_for=soon), queue()) == ["It is due in 1\u202fm 30\u202fs."]
    (reason,) = explain_not_running(job(State.SCHEDULED, scheduled_for=late), queue(), NOW)
    assert reason.blocks
    assert "1\u202fm 30\u202fs" in reason.text
    assert reasons_of(job(State.RETRYING, scheduled_for=soon), queue()) == ["It will be retried in 1\u202fm 30\u202fs."]


def test_a_queued_job_that_is_not_due_yet_shows_its_start() -> None:
    next_one = {"jobs_ahead": 0}
    reasons = reasons_of(job(State.WAITING, scheduled_for=instant(NOW + 90), **next_one), queue())
    assert reasons == ["It is scheduled to start in 1\u202fm 30\u202fs.", "It is next in the queue."]
    assert reasons_of(job(State.WAITING, scheduled_for=instant(NOW - 90), **next_one), queue()) == [
        "It is next in the queue."
    ]


def test_a_parent_counts_unfinished_and_failed_children() -> None:
    children = tuple(
        JobLink(id=str(n), queue="q", state=state) for n, state in enumerate([State.COMPLETED, None, State.DEAD])
    )
    (reason,) = explain_not_running(job(State.BLOCKED, children=children), queue(), NOW)
    assert (reason.text, reason.blocks) == ("It is waiting for 2 other jobs.", True)
    assert reasons_of(job(State.BLOCKED), queue()) == ["It is waiting for other jobs."]


def test_limits_and_clock_differences_are_named() -> None:
    at = instant(NOW)
    assert at is not None
    skewed = job(State.WAITING, enqueued_at=at + timedelta(seconds=30))
    assert reasons_of(skewed, queue(rate_limit=RateLimit(started=5, resets_in_s=7, exhausted=True))) == [
        "The queue is rate limited for 7\u202fs.",
        "It was enqueued 30\u202fs in the future.",
    ]


def test_a_counting_limit_of_a_worker_is_not_a_reached_one() -> None:
    counting = RateLimit(started=3, resets_in_s=40, exhausted=False)
    (reason,) = explain_not_running(job(State.WAITING), queue(rate_limit=counting), NOW)
    assert reason.text == "A worker's rate limiter counts starts: 3 so far, resets in 40\u202fs."
    assert reason.advice == "If the limit is reached, no job starts until then."


def test_an_abandoned_job_is_not_waiting_for_a_worker() -> None:
    (reason,) = explain_not_running(job(State.WAITING, abandoned=True), queue(workers=0, paused=True), NOW)
    assert reason.text == "No worker will pick it up: it is no longer in the queue."
    assert reason.blocks
