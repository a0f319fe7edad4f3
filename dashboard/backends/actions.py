"""Actions on jobs, queues, schedules and workers, and their outcomes.

A job is identified by a JobRef: its id and the stamp with which it was seen. The stamp changes each time the job
finishes (the score in the failed set, the time of death), so that a step repeated after a crash never acts on the same
job twice: with another stamp the outcome is `changed`. A JobRef without a stamp means the job in its current state.
"""

from __future__ import annotations

from enum import StrEnum

from ..model import Value


class Action(StrEnum):
    """All actions; a backend offers those that are safe with its library."""

    # On jobs.
    RETRY = "retry"  # run a dead (or retrying) job again, now
    DELETE = "delete"
    PROMOTE = "promote"  # run a scheduled job now
    KILL = "kill"  # move a job to the dead letters
    CANCEL = "cancel"  # a job that has not started never runs, and is kept as canceled
    STOP = "stop"  # stop a running job
    DUPLICATE = "duplicate"  # create a new job with the same payload
    EDIT = "edit"  # create a new job with the payload that the user entered
    MOVE = "move"  # to another queue
    UNDO = "undo"  # restore deleted jobs from the trash; no backend offers it for a state
    # On queues.
    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"  # delete all waiting jobs; consists of many deletes, so no backend offers it itself
    OBLITERATE = "obliterate"  # delete the queue and everything that belongs to it
    # On schedules.
    TRIGGER = "trigger"  # one extra run now; the schedule does not change
    PAUSE_SCHEDULE = "pause_schedule"
    RESUME_SCHEDULE = "resume_schedule"
    REMOVE_SCHEDULE = "remove_schedule"
    # On workers.
    QUIET = "quiet"  # finish running jobs, fetch no new ones
    STOP_WORKER = "stop_worker"


class Outcome(StrEnum):
    """The outcome of an action on one job, queue, schedule or worker."""

    DONE = "done"
    GONE = "gone"  # it no longer exists
    CHANGED = "changed"  # it is no longer in the state in which it was seen
    REFUSED = "refused"  # the library or the server refused; `detail` says why
    INVALID = "invalid"  # the input of the action cannot be used; `detail` says why and what to do
    UNSUPPORTED = "unsupported"


class JobRef(Value, frozen=True, kw_only=True):
    """One job to act on."""

    id: str
    version: str | None = None


class ActionResult(Value, frozen=True, kw_only=True):
    """The result of an action on one job, queue, schedule or worker.

    `new_id`: the id of the job that was created. `more`: not finished, call again. `again`: a restore is `changed`
    because the job was already restored.
    """

    id: str
    outcome: Outcome
    detail: str | None = None
    new_id: str | None = None
    more: bool = False
    again: bool = False


def refused_result(job_id: str, why: str) -> ActionResult:
    """Return the result of an action that is refused, and why."""
    return ActionResult(id=job_id, outcome=Outcome.REFUSED, detail=why)


def invalid_result(job_id: str, why: str) -> ActionResult:
    """Return the result of an action whose payload is invalid, and why."""
    return ActionResult(id=job_id, outcome=Outcome.INVALID, detail=why)


def back_before(job_id: str) -> ActionResult:
    """The result of restoring a job whose deletion was already undone: it may have run since, and no longer exist."""
    return ActionResult(id=job_id, outcome=Outcome.CHANGED, detail="it was already restored", again=True)


class JobBackup(Value, frozen=True, kw_only=True):
    """Everything needed to restore a job to where it was; `blob` has the backend's own format, only it reads it.

    `blob` None: the job is larger than MAX_KEPT_BYTES; it can be deleted, but not restored.
    """

    id: str
    version: str | None
    blob: bytes | None
    size_bytes: int
    name: str | None = None
    is_schedule: bool = False  # of a schedule; `id` is that of the schedule


class ActionOptions(Value, frozen=True, kw_only=True):
    """The input of an action besides the job."""

    payload: str | None = None  # EDIT: the new payload as JSON text
    target: str | None = None  # MOVE: the name of the destination queue, on the same source and library
    reset_attempts: bool = False  # RETRY: reset the attempt count


MAX_KEPT_BYTES = 1024 * 1024
# For libraries that do not keep jobs that ran: a sorted set beside the queues, of deletions that were undone, scored by
# when. It outlives the trash.
BACK, BACK_KEPT_S = "{queuedeck}:back", 25 * 3600
# The maximum number of jobs per call. The caller starts lower and adapts to the cost of a batch.
MAX_BATCH = 1000
