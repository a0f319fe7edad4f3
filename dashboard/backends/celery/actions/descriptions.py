"""The actions that Celery's jobs, queues, schedules and workers offer, and texts that explain what each one does."""

from __future__ import annotations

from collections.abc import Mapping

from ....model import State
from ...actions import Action

JOB_ACTIONS: Mapping[State, tuple[Action, ...]] = {
    State.WAITING: (Action.PROMOTE, Action.MOVE, Action.DUPLICATE, Action.EDIT, Action.CANCEL, Action.DELETE),
    State.ACTIVE: (Action.STOP, Action.CANCEL, Action.DUPLICATE, Action.EDIT),
    State.SCHEDULED: (Action.PROMOTE, Action.CANCEL, Action.DUPLICATE, Action.EDIT),
    State.RETRYING: (Action.PROMOTE, Action.CANCEL, Action.DUPLICATE, Action.EDIT),
    State.DEAD: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.COMPLETED: (Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.CANCELED: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
}
# For a message that a worker holds: it is waiting too, or already running.
RESERVED_ACTIONS = (Action.STOP, Action.CANCEL, Action.DUPLICATE, Action.EDIT)
QUEUE_ACTIONS = (Action.PAUSE, Action.RESUME, Action.OBLITERATE)
SCHEDULE_ACTIONS = (Action.TRIGGER, Action.PAUSE_SCHEDULE, Action.RESUME_SCHEDULE, Action.REMOVE_SCHEDULE)
WORKER_ACTIONS = (Action.STOP_WORKER,)
EXPLAINED: Mapping[Action, str] = {
    Action.RETRY: "Sends a new message, built from the record's name and arguments, to the queue the job ran in, under "
    "the same id (a revoked job under a new id, because workers remember revoked ids). Priority, time limits, expiry, "
    "callbacks, the rest of a chain and the position in a chord are lost; tuples become lists. A record without "
    "result_extended has no name or arguments and is refused.",
    Action.DUPLICATE: "Sends the same content again under a new id. A copy of a message keeps everything except the "
    "attempt count and an expiry that has passed; a copy of a record loses priority, time limits, callbacks and the "
    "rest of a chain. A second copy within a minute is refused.",
    Action.EDIT: 'Sends a new job under a new id with the arguments you enter, as {"args": [...], "kwargs": {...}}. '
    "The original is kept.",
    Action.PROMOTE: "A message waiting in the queue loses its ETA and runs next. A message that a worker holds is "
    "revoked and sent again under a new id; this needs a live worker, and a worker with remote control disabled would "
    "run the original too.",
    Action.CANCEL: "Asks all live workers to discard the job when they reach it (revoke). The message stays in its "
    "queue until then. Workers remember revoked ids in memory only: the revocation is lost if all of them restart.",
    Action.STOP: "Asks the workers to terminate the process running the job (SIGTERM, prefork pools only). A job that "
    "has not started yet is discarded when its turn comes.",
    Action.MOVE: "Moves the message to the end of the other queue, at the same priority. Only the delivery address in "
    "the message changes.",
    Action.DELETE: "Removes a waiting message from its queue and leaves no record of it. For a finished job, deletes "
    "the result record: anything still waiting for the result will not receive it.",
    Action.PAUSE: "Asks the live workers that consume this queue to stop consuming it. Messages stay. A worker that "
    "restarts, or starts later, consumes it again.",
    Action.RESUME: "Asks the workers that were asked to stop consuming this queue to consume it again.",
    Action.OBLITERATE: "Deletes the queue's waiting messages at all priorities, and its binding. Jobs held by workers "
    "still run. The queue reappears when a producer or worker uses it.",
    Action.STOP_WORKER: "Requests a warm shutdown: the worker finishes its running jobs and returns the messages "
    "it holds.",
    Action.TRIGGER: "Sends the schedule's task once, immediately, to the queue its entry names. An entry without a "
    "queue is marked as never run, so that the running beat sends it immediately; an interval then counts from now.",
    Action.PAUSE_SCHEDULE: "Sets `enabled` of the RedBeat entry to false; beat applies it when the entry is next due.",
    Action.RESUME_SCHEDULE: "Sets `enabled` of the RedBeat entry to true.",
    Action.REMOVE_SCHEDULE: "Deletes the RedBeat entry. An entry defined in the app's own settings reappears when beat "
    "starts.",
}
WITHHELD: Mapping[Action, str] = {
    Action.KILL: "Celery has no dead letter list to move a job to; cancel or delete it.",
    Action.QUIET: "Celery has no command to quiet a worker; pause the queues it consumes.",
    Action.DELETE: "A worker holds this job in memory; deleting the copy in Redis would not stop it from running. "
    "Cancel it.",
    Action.PURGE: "Delete the waiting jobs instead.",
    Action.RETRY: "Celery retries it automatically, or it has not failed.",
}
