"""The canary: the results of the first few jobs of a bulk operation decide whether the others are processed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...backends.actions import ActionResult, JobRef, Outcome
from ...backends.base import Backend
from ...errors import NotFound
from ...model import Job, QueueRef, State
from .operation import JobListRef

_ENDED_BADLY = frozenset({State.DEAD, State.RETRYING})
# The maximum number of queues to search for a job that moved to an unknown queue.
MAX_QUEUES = 50


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The number of jobs that failed again, and of those that have not finished yet."""

    failed: int
    open: int


def judge_canary(
    jobs: Sequence[tuple[JobListRef, JobRef, ActionResult]],
    backend_of: Callable[[str, str], Backend],
    queues_of: Callable[[str, str], Sequence[QueueRef]],
) -> CanaryResult:
    """Check the jobs on which the action was done. A job that no longer exists succeeded: libraries remove such jobs.

    Cost: that of `Backend.read_job` for each job, more for lists that a library shares between all queues.
    """
    failed = undecided = 0
    for place, job_ref, result in jobs:
        if result.outcome is not Outcome.DONE:
            continue
        backend = backend_of(place.ref.source, place.ref.backend)
        found = _find_job(backend, place, result.new_id or job_ref.id, queues_of)
        if found is None or found.state in (State.COMPLETED, None):
            continue
        if found.state in _ENDED_BADLY and (found.version is None or found.version != job_ref.version):
            failed += 1
        elif found.state is not State.CANCELED:
            undecided += 1
    return CanaryResult(failed, undecided)


def _find_job(
    backend: Backend, place: JobListRef, job_id: str, queues_of: Callable[[str, str], Sequence[QueueRef]]
) -> Job | None:
    refs = [place.ref]
    if place.ref.shared:
        refs += [ref for ref in queues_of(place.ref.source, place.ref.backend) if not ref.shared][:MAX_QUEUES]
    for ref in refs:
        try:
            return backend.read_job(ref, job_id)
        except NotFound:
            continue
    return None
