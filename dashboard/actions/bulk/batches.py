"""The batches of a bulk operation: the jobs of one list, on which the action is run at once and then recorded."""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from typing import Any

from msgspec.structs import replace

from ...backends.actions import Action, ActionResult, JobRef, Outcome
from ...clock import monotonic_s, now_s
from ...sources.metering import measure_cost
from .. import audit_log
from ..service import ActionService
from . import selection
from .operation import BulkOperation, BulkPhase, JobListRef
from .operation_jobs import OperationJobs, encode_canary_results
from .pacing import adapt_batch_limit, batch_size
from .progress import ProgressWriter
from .running_operation import RunningOperation
from .undo import undo_batch_of

# The part of a turn that one operation may use: then the others have theirs.
TURN_SHARE_S = 0.1


class BatchRunner:
    """Runs batches of operations. Methods return the phase after, None without lease."""

    def __init__(
        self,
        jobs: OperationJobs,
        actions: ActionService,
        progress: ProgressWriter,
        backend_of: selection.BackendOf,
    ) -> None:
        self._jobs = jobs
        self._actions = actions
        self._progress = progress
        self._backend_of = backend_of

    def run_batches(self, operation: BulkOperation, running: RunningOperation) -> BulkPhase | None:
        """Run batches for TURN_SHARE_S, within the rate limit."""
        until = monotonic_s() + TURN_SHARE_S
        while True:
            phase, results = self._run_batch(operation, running)
            if phase is not operation.phase or monotonic_s() >= until or running.due > monotonic_s():
                return phase
            operation = replace(
                operation,
                processed=operation.processed + len(results),
                outcomes=_add_outcomes(operation.outcomes, audit_log.count_outcomes(results)),
            )

    def _run_batch(
        self, operation: BulkOperation, running: RunningOperation
    ) -> tuple[BulkPhase | None, list[ActionResult]]:
        """Run one batch: (the phase after it, the results of its jobs)."""
        size = batch_size(operation, running.batch_limit)
        if size <= 0:
            return self._finish_phase(operation), []
        started = monotonic_s()
        number, job_refs = self._next_batch(operation, running, size)
        if not job_refs:
            note = "The list of its jobs no longer exists in Redis."
            return self._progress.end_operation(operation, BulkPhase.FAILED, note), []
        job_list = operation.request.job_lists[number]
        with measure_cost() as meter:
            results = self._run_action(operation, job_list, job_refs, repeated=operation.processed < running.repeats_to)
        running.batch_limit = adapt_batch_limit(running.batch_limit, len(job_refs), meter)
        pace = operation.request.pace_per_s
        running.due = started + (len(job_refs) / pace if pace > 0 else 0.0)
        return self._record_batch(operation, results, running.repeats_to), results

    def _next_batch(self, operation: BulkOperation, running: RunningOperation, size: int) -> tuple[int, list[JobRef]]:
        """(number of a job list, the next jobs of it), at most `size`; no jobs if the list of the operation is lost."""
        # An unreadable entry of the list has no number: it counts as a missing job of the last list.
        last = len(operation.request.job_lists) - 1
        job_refs = [
            (number if number <= last else -1, job_ref)
            for number, job_ref in running.next_jobs(self._jobs, operation, size)
        ]
        if not job_refs:
            return -1, []
        together = partial(_fit_together, operation.request.action, job_refs[0])
        return job_refs[0][0], [job_ref for _, job_ref in takewhile(together, job_refs)]

    def _run_action(
        self, operation: BulkOperation, job_list: JobListRef, job_refs: list[JobRef], *, repeated: bool
    ) -> list[ActionResult]:
        request = operation.request
        backend = self._backend_of(job_list.ref.source, job_list.ref.backend)
        if request.action is Action.UNDO:
            undo_batch = request.undo_batches[request.job_lists.index(job_list)]
            ids = [job_ref.id for job_ref in job_refs]
            return self._actions.restore_jobs(backend, job_list.ref, job_list.state, undo_batch, ids, repeated=repeated)
        return self._actions.run_batch(
            backend,
            job_list.ref,
            job_list.state,
            request.action,
            job_refs,
            replace(request.options, target=job_list.origin_queue) if request.to_origin else request.options,
            undo_batch_of(operation.id, job_list, request) if request.action is Action.DELETE else None,
            request.actor.name,
            for_good=request.for_good,
        )

    def _record_batch(self, operation: BulkOperation, results: list[ActionResult], repeats_to: int) -> BulkPhase | None:
        """Record the results of the next jobs; those before number `repeats_to` may have been processed before."""
        request, outcomes = operation.request, audit_log.count_outcomes(results)
        processed = operation.processed + len(results)
        to = _next_phase(operation, processed)
        fields: dict[str, Any] = {"ended_at": now_s()} if to is BulkPhase.DONE else {}
        if to is BulkPhase.WATCHING:
            # Until they are checked, none has a result.
            fields["canary_open"] = operation.done + outcomes.get(Outcome.DONE.value, 0)
            fields["watch_until"] = now_s() + request.canary_wait_s
        if request.action is Action.DELETE and not request.for_good:
            fields["batch_start"] = operation.processed
        if operation.phase is BulkPhase.CANARY:
            fields["canary_results"] = encode_canary_results(operation.processed, results, repeats_to)
        if request.undoes is not None:
            fields["restored"] = (request.undoes, sum(each.outcome is Outcome.DONE for each in results))
        if to is BulkPhase.DONE:
            # If a user has just paused it, the event is recorded after it is resumed, not twice.
            total = _add_outcomes(operation.outcomes, outcomes)
            ended = replace(operation, phase=to, processed=processed, outcomes=total, note=None)
            fields["event"] = self._progress.event_at_end(ended)
        return self._progress.write(operation, to=to, processed=processed, outcomes=outcomes, **fields)

    def _finish_phase(self, operation: BulkOperation) -> BulkPhase | None:
        """End a phase that has no jobs left: there were none, or a process that died had finished it."""
        if operation.processed >= operation.matched:
            return self._progress.end_operation(operation, BulkPhase.DONE, None)
        until = now_s() + operation.request.canary_wait_s
        return self._progress.write(operation, to=BulkPhase.WATCHING, watch_until=until, canary_open=operation.done)


def _next_phase(operation: BulkOperation, processed: int) -> BulkPhase | None:
    if processed >= operation.matched:
        return BulkPhase.DONE
    return BulkPhase.WATCHING if operation.phase is BulkPhase.CANARY and processed >= operation.request.canary else None


def _fit_together(action: Action, first: tuple[int, JobRef], one: tuple[int, JobRef]) -> bool:
    """Whether both can be in one batch: they are in the same list, and in an undo were deleted in one batch."""
    return one[0] == first[0] and (action is not Action.UNDO or one[1].version == first[1].version)


def _add_outcomes(outcomes: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {name: outcomes.get(name, 0) + more.get(name, 0) for name in {*outcomes, *more}}
