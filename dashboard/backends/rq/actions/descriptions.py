"""The actions on RQ's jobs, queues and workers, what each one does, and why the others are not offered."""

from __future__ import annotations

from ....model import State
from ...actions import Action

JOB_ACTIONS: dict[State, tuple[Action, ...]] = {
    State.ACTIVE: (Action.STOP,),
    State.WAITING: (Action.MOVE, Action.DUPLICATE, Action.CANCEL, Action.DELETE),
    State.SCHEDULED: (Action.PROMOTE, Action.DUPLICATE, Action.CANCEL, Action.DELETE),
    State.BLOCKED: (Action.PROMOTE, Action.CANCEL, Action.DELETE),
    State.DEAD: (Action.RETRY, Action.MOVE, Action.DUPLICATE, Action.DELETE),
    State.COMPLETED: (Action.DUPLICATE, Action.DELETE),
    State.CANCELED: (Action.RETRY, Action.DUPLICATE, Action.DELETE),
}
# A failed job that is waiting for its retry is in the list of scheduled jobs.
LISTED_WITH: dict[State, State] = {State.RETRYING: State.SCHEDULED}
JOB_ACTIONS[State.RETRYING] = JOB_ACTIONS[State.SCHEDULED]
# Additional actions on jobs whose status puts them in a state, but that are in no list.
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
        "Enqueues the job at the end of its queue, or holds it for its rate limit. Earlier results are kept. The "
        "number of retries left does not change, because RQ does not record the original number. A job that is in no "
        "list is enqueued again: at the front of the queue if it was next to run."
    ),
    Action.MOVE: "Moves the job to the end of the other queue. It belongs to that queue from then on.",
    Action.DUPLICATE: (
        "Enqueues a new job with the same function, arguments and options at the end of the queue, without results, "
        "group, repeats or dependencies. Its meta is copied, including any progress that the app stores there, and so "
        "is the number of retries left. The original is kept."
    ),
    Action.PROMOTE: (
        "Enqueues the job at the end of its queue now, whatever it was waiting for. It does not run again at its "
        "scheduled time or when its parents finish."
    ),
    Action.CANCEL: (
        "Keeps the job as canceled; it does not run. Jobs that depend on it keep waiting. You can retry it later."
    ),
    Action.DELETE: (
        "Deletes the job with its results and removes it from its group and rate limit. Jobs that depend on it stay "
        "deferred: RQ no longer enqueues them, so promote or delete them too."
    ),
    Action.STOP: (
        "Asks the worker to kill the process that runs the job. RQ then keeps the job among the failed jobs as stopped."
    ),
    Action.PAUSE: (
        "RQ cannot pause one queue: ALL workers of this Redis stop picking up jobs, from every queue. Running jobs "
        "finish, and a worker that is already waiting can still pick up one job."
    ),
    Action.RESUME: "ALL workers of this Redis pick up jobs again, from every queue, within about a second.",
    Action.OBLITERATE: (
        "Deletes the queue with all its waiting, scheduled, deferred, failed, finished and canceled jobs and their "
        "results. Jobs in other queues that depend on them stay deferred. It reappears when the app enqueues again."
    ),
    Action.STOP_WORKER: "The worker finishes its running job, then stops. Its supervisor can start a new one.",
}
_CRON = (
    "RQ's cron scheduler cannot be controlled through Redis: it keeps its schedule in memory, loaded from its "
    "configuration."
)
WITHHELD = {
    Action.EDIT: "RQ's arguments are pickled, or written by the app's own serializer; only the app can write them.",
    Action.KILL: "RQ cannot fail a job that is not running. Cancel it instead.",
    Action.QUIET: "RQ cannot quiet a single worker. Stop it, or pause all workers.",
    Action.TRIGGER: _CRON,
    Action.PAUSE_SCHEDULE: _CRON,
    Action.RESUME_SCHEDULE: _CRON,
    Action.REMOVE_SCHEDULE: _CRON,
}

# The statuses of jobs in the list of a state, in the form that the scripts expect.
STATUSES = {
    State.WAITING: "queued",
    State.ACTIVE: "started",
    State.SCHEDULED: "scheduled",
    State.BLOCKED: "deferred rate_limited",
    State.DEAD: "failed stopped",
    State.COMPLETED: "finished",
    State.CANCELED: "canceled",
}
# States whose stamp is the time at which the job finished; in the others it is when the job was last enqueued.
ENDED = frozenset({State.DEAD, State.COMPLETED})
