"""Why a job is not running: reasons from its queue's figures and its own record, the heaviest first. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...model import Job, QueueStats, State
from ..formatting import duration, full

# A clock may be off by this much before it is told.
SKEW_S = 5.0
OVERDUE_S = 10.0


@dataclass(frozen=True, slots=True)
class PendingReason:
    """One reason, and what to do about it; `blocks` = nothing happens until a person acts."""

    text: str
    advice: str
    blocks: bool = False


def explain_pending(job: Job, queue: QueueStats, now: float) -> tuple[PendingReason, ...]:
    """The reasons that are known, heaviest first; () for a job that runs or has ended. `now` in seconds since 1970."""
    if job.state not in (State.WAITING, State.SCHEDULED, State.BLOCKED, State.RETRYING):
        return ()
    if job.abandoned:
        text = "No worker will find it: it is not in the queue any more."
        return (PendingReason(text, "Retry puts it back into the queue; or delete it.", blocks=True),)
    found: list[PendingReason] = []
    if queue.paused:
        found.append(PendingReason("The queue is paused.", "Resume it with the library's own tools.", blocks=True))
    if queue.workers == 0:
        found.append(
            PendingReason("No worker takes jobs from this queue.", "Start one, or see the workers.", blocks=True)
        )
    elif queue.workers is None and job.state is State.WAITING:
        found.append(PendingReason("How many workers there are is unknown.", "Look whether yours run."))
    found += _explain_waiting(job, now)
    found += [
        PendingReason(f"The queue is {note}.", "It continues by itself.") for note in queue.notes if "limited" in note
    ]
    found += [
        PendingReason(f"{note[:1].upper()}{note[1:]}.", "Where the limit is reached, no job starts before it ends.")
        for note in queue.notes
        if "rate limit is counting" in note
    ]
    place = dict(job.facts).get("Place in line")
    if job.state is State.WAITING and place:
        busy = f" while {full(queue.counts.active)} run" if queue.counts.active else ""
        found.append(
            PendingReason(
                f"It is {place} in line{busy}." if place == "next" else f"There are {place}{busy}.",
                "It waits for its turn.",
            )
        )
    added_s = now - job.enqueued_at.timestamp() if job.enqueued_at else 0.0
    if added_s < -SKEW_S:
        found.append(
            PendingReason(f"It was enqueued {duration(-added_s)} in the future.", "The clocks of two machines differ.")
        )
    return tuple(sorted(found, key=lambda reason: not reason.blocks))


def _explain_waiting(job: Job, now: float) -> list[PendingReason]:
    found: list[PendingReason] = []
    if job.scheduled_for is not None and job.state is State.WAITING and job.scheduled_for.timestamp() > now:
        text = f"It is not to start for {duration(job.scheduled_for.timestamp() - now)}."
        found.append(PendingReason(text, "It is queued; the worker that picks it up will hold it until then."))
    if job.scheduled_for is not None and job.state in (State.SCHEDULED, State.RETRYING):
        left_s = job.scheduled_for.timestamp() - now
        again = "tries again" if job.state is State.RETRYING or job.attempts else "is due"
        if left_s > 0:
            found.append(PendingReason(f"It {again} in {duration(left_s)}.", "Nothing to do until then."))
        elif left_s < -OVERDUE_S:
            text = f"Overdue by {duration(-left_s)}; no worker has picked it up."
            found.append(PendingReason(text, "A worker or scheduler must move it: see whether one runs.", blocks=True))
    pending = [child for child in job.children if child.state is not State.COMPLETED]
    if job.state is State.BLOCKED:
        if pending:
            failed = sum(child.state is State.DEAD for child in pending)
            text = f"It waits for {full(len(pending))} other job{'' if len(pending) == 1 else 's'}"
            advice = f"{failed} of them failed: retry or remove them." if failed else "See below how far they are."
            found.append(PendingReason(f"{text}.", advice, blocks=bool(failed)))
        elif job.parent is not None:
            found.append(PendingReason("It waits for the job it depends on.", "Look at that job.", blocks=False))
        else:
            found.append(PendingReason("It waits for other jobs.", "The library does not record which."))
    return found
