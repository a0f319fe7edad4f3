"""The actions on BullMQ's jobs, queues and schedules, what each one does, and why the others are not offered."""

from __future__ import annotations

from ....model import State
from ...actions import Action

JOB_ACTIONS = {
    State.DEAD: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.SCHEDULED: (Action.PROMOTE, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.WAITING: (Action.MOVE, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.BLOCKED: (Action.DELETE,),
    State.COMPLETED: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
}
# Same as BullMQ: its check for stalled jobs requeues jobs that no worker holds, and `remove` removes them.
ABANDONED_ACTIONS = {State.ACTIVE: (Action.RETRY, Action.DELETE), None: (Action.DELETE,)}
QUEUE_ACTIONS = (Action.PAUSE, Action.RESUME, Action.OBLITERATE)
SCHEDULE_ACTIONS = (Action.TRIGGER, Action.REMOVE_SCHEDULE)
EXPLAINED = {
    Action.RETRY: "Moves the job back to the waiting list. The attempt count is kept.",
    Action.PROMOTE: "Moves the job from the delayed set to the waiting jobs, by its priority.",
    Action.DELETE: "Deletes the job and its logs. Children are kept; a parent waiting only for this job is released.",
    Action.DUPLICATE: "Creates a new job with the same name, data and options, without its ID, delay, parent or repeat "
    "options.",
    Action.EDIT: "Creates a new job with your payload and the same name and options. The original is kept.",
    Action.MOVE: "Moves the job with all its data to the other queue, where it waits. A numeric ID changes.",
    Action.PAUSE: "Workers stop picking up jobs until you resume. Running jobs finish.",
    Action.RESUME: "Workers pick up jobs from this queue again.",
    Action.OBLITERATE: "Deletes the queue with all jobs and schedules. It reappears when the app enqueues again.",
    Action.TRIGGER: "Adds one job from the schedule's template. The schedule itself does not change.",
    Action.REMOVE_SCHEDULE: "Removes the schedule and its next run. Apps that set it up at startup recreate it.",
}
# Why a queue in a cluster is read-only.
SPREAD = (
    "The keys of this queue are in several hash slots of the Redis Cluster. BullMQ needs them in one: put a part of "
    "the prefix or of the queue name in braces, such as {bull}."
)
WITHHELD = {
    Action.KILL: "BullMQ cannot fail a job that no worker is running.",
    Action.CANCEL: "BullMQ has no canceled jobs. Delete the job instead.",
    Action.STOP: "BullMQ cannot stop a running job.",
    Action.MOVE: "Only waiting BullMQ jobs can be moved to another queue.",
    Action.PAUSE_SCHEDULE: "BullMQ cannot pause a schedule.",
    Action.QUIET: "BullMQ workers cannot be controlled through Redis.",
    Action.STOP_WORKER: "BullMQ workers cannot be controlled through Redis.",
}
