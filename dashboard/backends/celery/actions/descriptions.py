"""What may be done with Celery's jobs, queues, schedules and workers, and what Celery does then, in words."""

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
# Of a message that a worker holds, which waits, too, or is being run.
RESERVED_ACTIONS = (Action.STOP, Action.CANCEL, Action.DUPLICATE, Action.EDIT)
QUEUE_ACTIONS = (Action.PAUSE, Action.RESUME, Action.OBLITERATE)
SCHEDULE_ACTIONS = (Action.TRIGGER, Action.PAUSE_SCHEDULE, Action.RESUME_SCHEDULE, Action.REMOVE_SCHEDULE)
WORKER_ACTIONS = (Action.STOP_WORKER,)
EXPLAINED: Mapping[Action, str] = {
    Action.RETRY: "Sends a new message from the record's name and arguments to the queue it ran in, under the same id "
    "(a revoked job under a new one, because workers remember revoked ids). Lost are priority, time limits, expiry, "
    "callbacks, the rest of a chain and the place in a chord; tuples arrive as lists. A record without result_extended "
    "has no name and arguments and is refused.",
    Action.DUPLICATE: "Sends the same content once more under a new id. From a message all goes along but the "
    "attempts made and an expiry that has passed; from a record priority, time limits, callbacks and the rest of a "
    "chain are lost. A second copy within a minute is refused.",
    Action.EDIT: 'Sends a new job under a new id with the arguments written here, as {"args": [...], "kwargs": {...}}; '
    "the old one stays as it is.",
    Action.PROMOTE: "A message that waits in the queue loses its set time and is next to run. One that a worker holds "
    "is revoked and sent anew under a new id; that needs a live worker, and one with remote control switched off would "
    "run the old one too.",
    Action.CANCEL: "Tells all live workers to throw the job away when they get to it (revoke). The message stays in "
    "its queue until then. Workers keep that in memory only: it is forgotten when all of them restart.",
    Action.STOP: "Tells the workers to end the process that runs the job (SIGTERM, prefork pools only). A job that has "
    "not started yet is thrown away when its turn comes.",
    Action.MOVE: "Takes the message out of this queue and puts it last in line of the other one, in its priority; only "
    "the address in it changes.",
    Action.DELETE: "A waiting message is taken out of its queue, and no record tells of it. Of a job that has ended, "
    "the result record is deleted: what waits for its result does not get one any more.",
    Action.PAUSE: "Tells the live workers that take from this queue to stop taking from it. Messages stay. A worker "
    "that restarts, or starts later, takes from it again.",
    Action.RESUME: "Tells the workers that were told to stop taking from this queue to take from it again.",
    Action.OBLITERATE: "Deletes the queue's waiting messages, all priorities, and its binding. Jobs that workers hold "
    "go on; a producer or worker that uses the queue makes it anew.",
    Action.STOP_WORKER: "Tells the worker to shut down warmly: it finishes what it runs and puts back what it holds.",
    Action.TRIGGER: "Sends the schedule's task once, now, to the queue that its entry names. An entry without a queue "
    "is marked as never run, so that the running beat sends it at once; an interval then counts from now.",
    Action.PAUSE_SCHEDULE: "Sets `enabled` of the RedBeat entry to false; beat heeds it when the entry is next due.",
    Action.RESUME_SCHEDULE: "Sets `enabled` of the RedBeat entry to true.",
    Action.REMOVE_SCHEDULE: "Deletes the RedBeat entry. One that the app's own settings name comes back when beat "
    "starts.",
}
WITHHELD: Mapping[Action, str] = {
    Action.KILL: "Celery has no dead letters to put a job into; cancel or delete it.",
    Action.QUIET: "Celery has no command that quiets a worker; pause the queues it takes from.",
    Action.DELETE: "A worker holds this job in its memory; deleting its safety copy would not keep it from running. "
    "Cancel it.",
    Action.PURGE: "Made of many deletes.",
    Action.RETRY: "Celery runs it again by itself, or it has not failed.",
}
