"""Which actions are offered where: those that the library supports, on queues that are not read-only."""

from __future__ import annotations

from ...backends.actions import Action
from ...backends.base import Backend
from ...model import Job, JobPage, QueueRef, QueueStats, Snapshot, State

NO_RIGHT = "You do not have the right for this on this queue."
# These remove a job from its current list, so they do not apply to a job that is in none.
_FROM_ITS_LIST = frozenset({Action.MOVE, Action.CANCEL, Action.PROMOTE, Action.STOP})


def job_verbs(backend: Backend, queue: QueueStats, job: Job) -> tuple[Action, ...]:
    """Actions on one job, in button order."""
    if queue.read_only:
        return ()
    verbs = backend.offered_actions(job.state, shared=queue.shared, abandoned=job.abandoned)
    fitting = (verb for verb in verbs if not (job.abandoned and verb in _FROM_ITS_LIST))
    return tuple(verb for verb in fitting if backend.permits(verb, queue.name))


def list_verbs(backend: Backend, queue: QueueStats, state: State, jobs: JobPage | None) -> tuple[Action, ...]:
    """Actions on the selected jobs of a list, including those for abandoned jobs when the page has any."""
    if queue.read_only:
        return ()
    abandoned = jobs is not None and any(job.abandoned for job in jobs.jobs)
    offered = backend.offered_actions(state, shared=queue.shared, abandoned=abandoned)
    return tuple(action for action in offered if backend.permits(action, queue.name))


def queue_verbs(backend: Backend, queue: QueueStats) -> tuple[Action, ...]:
    """Actions on the queue in its current state: pause or resume, purge, delete.

    The shared entry for all queues has none: a button there would read as if it applied to each of them.
    """
    if queue.shared or queue.read_only:
        return ()
    unfit = {Action.RESUME if queue.paused is False else Action.PAUSE if queue.paused else None}
    verbs = [action for action in backend.queue_actions if action not in unfit]
    if Action.DELETE in backend.job_actions.get(State.WAITING, ()):
        verbs.append(Action.PURGE)
    return tuple(action for action in verbs if backend.permits(action, queue.name))


def why_unsupported(backend: Backend, *actions: Action, state: State | None = None) -> str:
    """Why a library offers none of `actions`, the most important one first: its own reason, or that it has none.

    `state`: that of the jobs for which they are missing.
    """
    reasons = (backend.unsupported_reasons[action] for action in actions if action in backend.unsupported_reasons)
    jobs = f" for {state.value} jobs" if state else ""
    return next(reasons, f"{backend.title} does not support this{jobs}.")


def why_none(backend: Backend, ref: QueueRef, *actions: Action, state: State) -> str:
    """Why a queue offers none of `actions` on its jobs in a state: as why_unsupported, or that the right is missing."""
    offered = backend.offered_actions(state, shared=ref.shared, abandoned=True)
    if any(action in offered and not backend.permits(action, ref.name) for action in actions):
        return NO_RIGHT
    return why_unsupported(backend, *actions, state=state)


def read_only(snapshot: Snapshot | None, ref: QueueRef) -> str | None:
    """Why the queue is read-only according to the snapshot; None when it is writable or not in the snapshot."""
    queue = snapshot.find(ref.source, ref.backend, ref.name) if snapshot else None
    return queue.read_only if queue else None
