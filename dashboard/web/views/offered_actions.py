"""Which acts are offered where: what the library can do, in a queue that may be written to."""

from __future__ import annotations

from ...backends.actions import Action
from ...backends.base import Backend
from ...model import Job, JobPage, QueueRef, QueueStats, Snapshot, State

# What takes a job out of the list in which it stands: nothing for one that stands in none.
_FROM_ITS_LIST = frozenset({Action.MOVE, Action.CANCEL, Action.PROMOTE, Action.STOP})


def job_verbs(backend: Backend, queue: QueueStats, job: Job) -> tuple[Action, ...]:
    """What may be done to one job, in the order of the buttons."""
    if queue.read_only:
        return ()
    verbs = backend.offered_actions(job.state, shared=queue.shared, abandoned=job.abandoned)
    return tuple(verb for verb in verbs if not (job.abandoned and verb in _FROM_ITS_LIST))


def list_verbs(backend: Backend, queue: QueueStats, state: State, jobs: JobPage | None) -> tuple[Action, ...]:
    """What may be done to the ticked jobs of a list; to abandoned ones where there are some on the page."""
    if queue.read_only:
        return ()
    abandoned = jobs is not None and any(job.abandoned for job in jobs.jobs)
    return backend.offered_actions(state, shared=queue.shared, abandoned=abandoned)


def queue_verbs(backend: Backend, queue: QueueStats) -> tuple[Action, ...]:
    """What may be done to the queue as it is: pause or resume, empty, remove. Nothing to the entry for all queues: a
    button there would read as if it meant each of them."""
    if queue.shared or queue.read_only:
        return ()
    unfit = {Action.RESUME if queue.paused is False else Action.PAUSE if queue.paused else None}
    verbs = [action for action in backend.queue_actions if action not in unfit]
    if Action.DELETE in backend.job_actions.get(State.WAITING, ()):
        verbs.append(Action.PURGE)
    return tuple(verbs)


def read_only(snapshot: Snapshot | None, ref: QueueRef) -> str | None:
    """Why nothing can be done to a queue, as far as the snapshot tells; None where it can."""
    queue = snapshot.find(ref.source, ref.backend, ref.name) if snapshot else None
    return queue.read_only if queue else None
