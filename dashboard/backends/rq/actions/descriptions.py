"""What may be done to RQ's jobs, queues and workers, what happens then, and why the rest is not offered."""

from __future__ import annotations

from ....model import State
from ...actions import Action
from ...payloads.decoding import printable

JOB_ACTIONS: dict[State, tuple[Action, ...]] = {
    State.ACTIVE: (Action.STOP,),
    State.WAITING: (Action.MOVE, Action.DUPLICATE, Action.CANCEL, Action.DELETE),
    State.SCHEDULED: (Action.PROMOTE, Action.DUPLICATE, Action.CANCEL, Action.DELETE),
    State.BLOCKED: (Action.PROMOTE, Action.CANCEL, Action.DELETE),
    State.DEAD: (Action.RETRY, Action.MOVE, Action.DUPLICATE, Action.DELETE),
    State.COMPLETED: (Action.DUPLICATE, Action.DELETE),
    State.CANCELED: (Action.RETRY, Action.DUPLICATE, Action.DELETE),
}
# A job that failed and is tried again later stands among the scheduled ones.
LISTED_WITH: dict[State, State] = {State.RETRYING: State.SCHEDULED}
JOB_ACTIONS[State.RETRYING] = JOB_ACTIONS[State.SCHEDULED]
# What may be done beside to jobs that their status puts in a state, but that stand in no list.
ABANDONED_ACTIONS: dict[State | None, tuple[Action, ...]] = {
    State.ACTIVE: (Action.RETRY, Action.DELETE),
    State.WAITING: (Action.RETRY,),
    State.SCHEDULED: (Action.RETRY,),
    State.BLOCKED: (Action.RETRY,),
}
QUEUE_ACTIONS = (Action.PAUSE, Action.RESUME, Action.OBLITERATE)
WORKER_ACTIONS = (Action.STOP_WORKER,)

EXPLAINED = {
    Action.RETRY: (
        "The job goes to the end of its queue, or waits for its rate limit; earlier results are kept. The retries it "
        "has left stay as they are: RQ does not keep how many there were at first. A job that is in no list goes back "
        "into line: to its front where it was next before."
    ),
    Action.MOVE: "The job goes to the end of the other queue and belongs to it from then on.",
    Action.DUPLICATE: (
        "A new job of the same function, arguments and options goes to the end of the queue, without results, group, "
        "repeats or jobs to wait for. Its meta goes with it, with what the app keeps there of its progress, and the "
        "retries that it has left. The job itself stays as it is."
    ),
    Action.PROMOTE: (
        "The job goes to the end of its queue now, whatever it was waiting for, and does not run again when its time "
        "comes or its parents end."
    ),
    Action.CANCEL: (
        "The job is kept as canceled and does not run; jobs that wait for it go on waiting. It can be retried later."
    ),
    Action.DELETE: (
        "The job goes with its results and leaves its group and rate limit. Jobs that wait for it stay deferred: RQ "
        "puts them in line no more, so promote or delete them too."
    ),
    Action.STOP: (
        "The worker is told to kill the process that runs the job; RQ then keeps it among the failed jobs as stopped."
    ),
    Action.PAUSE: (
        "RQ cannot pause one queue: ALL workers of this Redis stop taking jobs, of every queue. Jobs that run are "
        "finished, and a worker that is waiting already may take one more."
    ),
    Action.RESUME: "ALL workers of this Redis, of every queue, take jobs again, within a second or so.",
    Action.OBLITERATE: (
        "The queue goes with all its jobs, waiting, scheduled, deferred, failed, finished and canceled, and their "
        "results; jobs elsewhere that wait for them stay deferred. It is back when the app adds a job."
    ),
    Action.STOP_WORKER: "The worker finishes the job it runs, and ends. Whatever supervises it may start another.",
}
_CRON = "RQ's cron scheduler takes no orders: it keeps its jobs in its own memory, as its configuration file has them."
WITHHELD = {
    Action.EDIT: "RQ's arguments are pickled, or made by the app's own serializer: only the app can write them.",
    Action.KILL: "RQ fails no job that does not run: cancel it instead.",
    Action.QUIET: "RQ cannot tell one worker to take nothing new: stop it, or pause all of them.",
    Action.TRIGGER: _CRON,
    Action.PAUSE_SCHEDULE: _CRON,
    Action.RESUME_SCHEDULE: _CRON,
    Action.REMOVE_SCHEDULE: _CRON,
}

# The statuses of jobs in the list of a state, as the scripts take them.
STATUSES = {
    State.WAITING: "queued",
    State.ACTIVE: "started",
    State.SCHEDULED: "scheduled",
    State.BLOCKED: "deferred rate_limited",
    State.DEAD: "failed stopped",
    State.COMPLETED: "finished",
    State.CANCELED: "canceled",
}
# States whose stamp is that of an end; of the others it is when the job was last put in line.
ENDED = frozenset({State.DEAD, State.COMPLETED})


def explain_error(error: str) -> str:
    """An error of the server in words for an operator."""
    low = error.lower()
    if "noperm" in low or "no permission" in low or "can't run this command" in low:
        return f"not permitted to the Redis user of Queuedeck: {printable(error, 200)}"
    if "wrongtype" in low:
        return f"a key of this queue holds another type of data than RQ's: {printable(error, 200)}"
    if "oom" in low or "maxmemory" in low:
        return "Redis is out of memory and takes no writes"
    if "readonly" in low:
        return "this Redis is a read-only replica"
    return f"Redis refused it: {printable(error, 200)}"
