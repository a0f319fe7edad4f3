"""Reasons why a job is not running, from its queue's figures and its own record. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ....actions.pauses import RecordedPauses
from ....backends.job_facts import POSITION
from ....model import Job, QueueStats, RateLimit, State
from ....units import format_count, format_number
from ...formatting import duration

# Clock differences up to this are not reported.
SKEW_S = 5.0
OVERDUE_S = 10.0


@dataclass(frozen=True, slots=True)
class WaitingReason:
    """One reason, and what to do about it. `blocks`: nothing happens without manual action. `page`: where to do it."""

    text: str
    advice: str
    blocks: bool = False
    page: Literal["queue", "workers"] | None = None


def explain_not_running(
    job: Job, queue: QueueStats, now: float, pause: WaitingReason | None = None
) -> tuple[WaitingReason, ...]:
    """The known reasons, blocking ones first; () for a running or finished job. `now` in seconds since 1970.

    `pause`: that of `explain_pause`, where more is known than that the queue is paused.
    """
    if job.state not in (State.WAITING, State.SCHEDULED, State.BLOCKED, State.RETRYING):
        return ()
    if job.abandoned:
        text = "No worker will pick it up: it is no longer in the queue."
        return (WaitingReason(text, "Retry it to add it to the queue again, or delete it.", blocks=True),)
    found: list[WaitingReason] = []
    if queue.paused:
        # Workers and overdue jobs of a paused queue follow from the pause: nothing else is worth doing first.
        found.append(pause or explain_pause(queue, None, now))
    elif queue.workers == 0:
        found.append(
            WaitingReason(
                "No worker processes this queue.", "Start a worker, or see which ones run:", blocks=True, page="workers"
            )
        )
    elif queue.workers is None and job.state is State.WAITING:
        found.append(WaitingReason("The number of workers is unknown.", "See which workers run:", page="workers"))
    found += _explain_waiting(job, queue, now)
    if queue.rate_limit is not None:
        found.append(_explain_rate_limit(queue.rate_limit))
    if job.state is State.WAITING and (position := _describe_position(job)):
        active = queue.counts.active
        busy = f"; {format_number(active)} {'is' if active == 1 else 'are'} running" if active else ""
        turn = "Its turn comes after the queue is resumed." if queue.paused else "It starts when its turn comes."
        found.append(WaitingReason(f"{position}{busy}.", turn))
    added_s = now - job.enqueued_at.timestamp() if job.enqueued_at else 0.0
    if added_s < -SKEW_S:
        found.append(
            WaitingReason(f"It was enqueued {duration(-added_s)} in the future.", "The clocks of two machines differ.")
        )
    return tuple(sorted(found, key=lambda reason: not reason.blocks))


def explain_pause(
    queue: QueueStats, recorded: RecordedPauses | None, now: float, obstacle: str | None = None
) -> WaitingReason:
    """That the queue is paused, by whom, and how to resume it.

    `recorded` None: who paused it cannot be read. `obstacle`: why Queuedeck cannot resume it; None when it can.
    """
    record = recorded.find_pause(queue) if recorded is not None else None
    if record is not None:
        text = f"The queue was paused by {record.who} {duration(max(0.0, now - record.at))} ago."
    else:
        text = "The queue is paused." if recorded is None else "The queue was paused outside Queuedeck."
    if obstacle is None:
        return WaitingReason(text, "Resume the queue when its jobs may run again:", blocks=True, page="queue")
    return WaitingReason(text, f"Resume it where it was paused. {obstacle}", blocks=True)


def _explain_rate_limit(limit: RateLimit) -> WaitingReason:
    left = duration(limit.resets_in_s)
    if limit.exhausted:
        return WaitingReason(f"The queue is rate limited for {left}.", "It continues automatically.")
    return WaitingReason(
        f"A worker's rate limiter counts starts: {format_number(limit.started)} so far, resets in {left}.",
        "If the limit is reached, no job starts until then.",
    )


def _describe_position(job: Job) -> str:
    """The position in the queue as a sentence without its full stop; "" if the library does not report any."""
    ahead = job.jobs_ahead
    if ahead is None:
        reported = dict(job.facts).get(POSITION)
        return f"Its position is {reported}" if reported else ""
    if ahead == 0:
        return "It is next in the queue"
    return f"{format_count(ahead, 'job')} {'is' if ahead == 1 else 'are'} ahead of it"


def _explain_waiting(job: Job, queue: QueueStats, now: float) -> list[WaitingReason]:
    found: list[WaitingReason] = []
    if job.scheduled_for is not None and job.state is State.WAITING and job.scheduled_for.timestamp() > now:
        text = f"It is scheduled to start in {duration(job.scheduled_for.timestamp() - now)}."
        found.append(WaitingReason(text, "It is queued; the worker that picks it up will hold it until then."))
    if job.scheduled_for is not None and job.state in (State.SCHEDULED, State.RETRYING):
        left_s = job.scheduled_for.timestamp() - now
        again = "will be retried" if job.state is State.RETRYING or job.attempts else "is due"
        if left_s > 0:
            found.append(WaitingReason(f"It {again} in {duration(left_s)}.", "No action needed."))
        elif left_s < -OVERDUE_S:
            text = f"Overdue by {duration(-left_s)}; no worker has picked it up."
            if queue.paused:
                found.append(WaitingReason(f"It is overdue by {duration(-left_s)}.", "It starts after the resume."))
            else:
                advice = "A worker or scheduler moves it. See which ones run:"
                found.append(WaitingReason(text, advice, blocks=True, page="workers"))
    pending = [child for child in job.children if child.state is not State.COMPLETED]
    if job.state is State.BLOCKED:
        if pending:
            failed = sum(child.state is State.DEAD for child in pending)
            text = f"It is waiting for {format_count(len(pending), 'other job')}"
            advice = f"{failed} of them failed: retry or delete them." if failed else "Their states are listed below."
            found.append(WaitingReason(f"{text}.", advice, blocks=bool(failed)))
        elif job.parent is not None:
            found.append(WaitingReason("It is waiting for the job it depends on.", "Check that job.", blocks=False))
        else:
            found.append(WaitingReason("It is waiting for other jobs.", "The library does not record which."))
    return found
