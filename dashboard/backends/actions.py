"""What a person may have done to jobs, queues, schedules and workers, and what came of it.

A job is named by a Pick: its id and the stamp under which it was seen. The stamp changes whenever the job ends anew
(the score in the failed set, the time of death), so that a step that is repeated after a crash never acts on the same
job twice: with another stamp the outcome is `changed`. A Pick without a stamp means the job as it is now.
"""

from __future__ import annotations

from enum import StrEnum

from ..model import Value


class Action(StrEnum):
    """Every verb there is; a backend offers those that its library can do safely."""

    # On jobs.
    RETRY = "retry"  # a dead (or retrying) job runs again, now
    DELETE = "delete"
    PROMOTE = "promote"  # a scheduled job runs now
    KILL = "kill"  # to the dead letters
    CANCEL = "cancel"  # a job that has not started shall never run, and is kept as canceled
    STOP = "stop"  # a running job is ended
    DUPLICATE = "duplicate"  # a new job of the same content
    EDIT = "edit"  # a new job of the content that the person wrote
    MOVE = "move"  # to another queue
    UNDO = "undo"  # deleted jobs are put back; of those in the bin, no backend offers it in a state
    # On queues.
    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"  # all waiting jobs are deleted; made of many deletes, no backend offers it itself
    OBLITERATE = "obliterate"  # the queue and all that belongs to it is removed
    # On schedules.
    TRIGGER = "trigger"  # one run now, the schedule as it was
    PAUSE_SCHEDULE = "pause_schedule"
    RESUME_SCHEDULE = "resume_schedule"
    REMOVE_SCHEDULE = "remove_schedule"
    # On workers.
    QUIET = "quiet"  # finish what runs, take nothing new
    STOP_WORKER = "stop_worker"


class Outcome(StrEnum):
    """What came of an action on one thing."""

    DONE = "done"
    GONE = "gone"  # it is not there any more
    CHANGED = "changed"  # it is not in the state in which it was seen
    REFUSED = "refused"  # the library or the server would not have it; `detail` says why
    INVALID = "invalid"  # what was sent with it cannot be used; `detail` says why and what to do
    UNSUPPORTED = "unsupported"


class JobRef(Value, frozen=True, kw_only=True):
    """One job to act on."""

    id: str
    stamp: str | None = None


class ActionResult(Value, frozen=True, kw_only=True):
    """What came of an action on one thing; `new_id` where a job was made, `more` where it must be asked again.

    `again`: of a job to be put back, `changed` because that was done before.
    """

    id: str
    outcome: Outcome
    detail: str | None = None
    new_id: str | None = None
    more: bool = False
    again: bool = False


def back_before(job_id: str) -> ActionResult:
    """Of a job to be put back, where that deletion was undone before: it may have run since, and be gone."""
    return ActionResult(id=job_id, outcome=Outcome.CHANGED, detail="it was already restored", again=True)


class JobBackup(Value, frozen=True, kw_only=True):
    """All that is needed to put a job back where it was; `blob` is the backend's own form, no one else reads it.

    `blob` None: the job is larger than MAX_KEPT_BYTES and can be deleted, but not put back.
    """

    id: str
    stamp: str | None
    blob: bytes | None
    size_bytes: int
    name: str | None = None


class ActionOptions(Value, frozen=True, kw_only=True):
    """What an action needs beside the job."""

    payload: str | None = None  # EDIT: the new payload as JSON text
    target: str | None = None  # MOVE: the name of the other queue, on the same source and library
    reset_attempts: bool = False  # RETRY: the attempts made so far do not count


MAX_KEPT_BYTES = 1024 * 1024
# Where a library forgets jobs that ran: a sorted set beside its queues of the deletions that were undone, by when.
# It outlives the bin.
BACK, BACK_KEPT_S = "{queuedeck}:back", 25 * 3600
# The most jobs of one call. The caller starts lower and adapts to what a batch costs.
MAX_BATCH = 1000
