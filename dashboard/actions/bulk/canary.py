"""The canary: the results of the first few jobs of a bulk operation decide whether the others are processed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...backends.actions import ActionResult, JobRef, Outcome
from ...backends.base import Backend
from ...clock import monotonic_s, now_s
from ...errors import NotFound
from ...model import Job, QueueRef, State
from .operation import BulkOperation, BulkPhase, JobListRef
from .operation_jobs import OperationJobs
from .progress import ProgressWriter
from .running_operation import RunningOperation

_ENDED_BADLY = frozenset({State.DEAD, State.RETRYING})
# The maximum number of queues to search for a job that moved to an unknown queue.
MAX_QUEUES = 50
WATCH_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The number of jobs that failed again, and of those that have not finished yet."""

    failed: int
    open: int


class CanaryCounts(NamedTuple):
    """The jobs of a canary by their result. `skipped`: the action was not done, so there is no result to wait for."""

    failed: int
    succeeded: int
    open: int
    skipped: int


def count_canary(operation: BulkOperation) -> CanaryCounts | None:
    """The results of the canary until the other jobs are processed; None before its start, after it and without one."""
    size = operation.request.canary
    if operation.phase is BulkPhase.COLLECTING or not 0 < size < operation.matched or operation.processed > size:
        return None
    skipped = max(0, operation.processed - operation.done)
    if operation.processed < size:
        return CanaryCounts(failed=0, succeeded=0, open=size - skipped, skipped=skipped)
    # Jobs of a repeated batch can have both a result and the outcome gone or changed: their result counts.
    failed = min(operation.canary_failed, size)
    unfinished = min(operation.canary_open, size - failed)
    skipped = min(skipped, size - failed - unfinished)
    return CanaryCounts(failed, size - failed - unfinished - skipped, unfinished, skipped)


class CanaryWatch:
    """Waits for the results of the canaries of operations. `queues_of` lists the queues of a source and library."""

    def __init__(
        self,
        jobs: OperationJobs,
        progress: ProgressWriter,
        backend_of: Callable[[str, str], Backend],
        queues_of: Callable[[str, str], Sequence[QueueRef]],
    ) -> None:
        self._jobs = jobs
        self._progress = progress
        self._backend_of = backend_of
        self._queues_of = queues_of

    def watch_canary(self, operation: BulkOperation, running: RunningOperation) -> BulkPhase | None:
        """Check the first jobs and continue, keep waiting or pause. Returns the phase after, None without lease."""
        running.due = monotonic_s() + WATCH_EVERY_S
        size = operation.request.canary
        # As recorded: another process may have acted on some of them.
        verdict = judge_canary(_list_canary(operation, self._jobs, size), self._backend_of, self._queues_of)
        counts: dict[str, Any] = {"canary_failed": verdict.failed, "canary_open": verdict.open}
        if verdict.failed > operation.request.canary_max_ratio * size:
            note = f"Stopped: {verdict.failed} of the first {size} failed again. The other jobs were not changed."
        elif verdict.open and now_s() >= (operation.watch_until or 0):
            note = f"{verdict.open} of the first {size} have not finished yet. Resume to process the others."
        elif verdict.open:
            return self._progress.write(operation, **counts)
        else:
            return self._progress.write(operation, to=BulkPhase.RUNNING, **counts)
        following = {"before": BulkPhase.RUNNING.value}
        return self._progress.write(operation, to=BulkPhase.PAUSED, note=note, entering=following, **counts)


def judge_canary(
    jobs: Sequence[tuple[JobListRef, JobRef, ActionResult]],
    backend_of: Callable[[str, str], Backend],
    queues_of: Callable[[str, str], Sequence[QueueRef]],
) -> CanaryResult:
    """Check the jobs on which the action was done. A job that no longer exists succeeded: libraries remove such jobs.

    Cost: that of `Backend.read_job` for each job, more for lists that a library shares between all queues.
    """
    failed = undecided = 0
    for job_list, job_ref, result in jobs:
        if result.outcome is not Outcome.DONE:
            continue
        backend = backend_of(job_list.ref.source, job_list.ref.backend)
        found = _find_job(backend, job_list, result.new_id or job_ref.id, queues_of)
        if found is None:
            continue
        _, job = found
        if job.state in (State.COMPLETED, None):
            continue
        if _has_failed(job, job_ref, result):
            failed += 1
        elif job.state is not State.CANCELED:
            undecided += 1
    return CanaryResult(failed, undecided)


def list_canary_failures(
    operation: BulkOperation,
    jobs: OperationJobs,
    backend_of: Callable[[str, str], Backend],
    queues_of: Callable[[str, str], Sequence[QueueRef]],
    most: int,
    searched: int | None = None,
) -> list[tuple[QueueRef, Job]]:
    """The jobs of the canary that have failed again, with their errors, and where each was found; at most `most`.

    With `searched`, only the first so many jobs are read. Cost: 1 round trip, and that of judge_canary.
    """
    failed: list[tuple[QueueRef, Job]] = []
    size = min(operation.processed, operation.request.canary)
    for job_list, job_ref, result in _list_canary(operation, jobs, size if searched is None else min(size, searched)):
        if result.outcome is not Outcome.DONE:
            continue
        backend = backend_of(job_list.ref.source, job_list.ref.backend)
        found = _find_job(backend, job_list, result.new_id or job_ref.id, queues_of)
        if found is not None and _has_failed(found[1], job_ref, result):
            failed.append(found)
            if len(failed) >= most:
                break
    return failed


def _list_canary(
    operation: BulkOperation, jobs: OperationJobs, count: int
) -> list[tuple[JobListRef, JobRef, ActionResult]]:
    job_lists = operation.request.job_lists
    return [
        (job_lists[number], job_ref, result)
        for number, job_ref, result in jobs.list_canary(operation.id, count)
        if 0 <= number < len(job_lists)
    ]


def _has_failed(job: Job, job_ref: JobRef, result: ActionResult) -> bool:
    """Whether a job of the canary failed after the action; `job_ref` as it was before, unless it was copied."""
    is_other = result.new_id is not None or job.version is None or job.version != job_ref.version
    return job.state in _ENDED_BADLY and is_other


def _find_job(
    backend: Backend, job_list: JobListRef, job_id: str, queues_of: Callable[[str, str], Sequence[QueueRef]]
) -> tuple[QueueRef, Job] | None:
    refs = [job_list.ref]
    if job_list.ref.shared:
        refs += [ref for ref in queues_of(job_list.ref.source, job_list.ref.backend) if not ref.shared][:MAX_QUEUES]
    for ref in refs:
        try:
            return ref, backend.read_job(ref, job_id)
        except NotFound:
            continue
    return None
