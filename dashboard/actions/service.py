"""Actions of users on jobs, queues, schedules and workers: check support, run the backend's atomic step, audit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ..backends.actions import (
    MAX_BATCH,
    Action,
    ActionOptions,
    ActionResult,
    JobRef,
    Outcome,
)
from ..backends.base import NO_OPTIONS, Backend
from ..errors import UNEXPECTED_ERROR, Conflict, NotFound, OutcomeUnknown, QueuedeckError, Unsupported
from ..model import QueueRef, QueueStats, Schedule, State, Worker
from . import audit_log
from .approval import ApprovalRule
from .audit_log import Actor, AuditLog
from .deletion import JobDeletion
from .pauses import PauseLog
from .trash import Trash, new_undo_batch

BackendOf = Callable[[str, str], Backend]
# A queue is deleted in bounded steps; after this many, a deletion that does not finish is abandoned.
MAX_STEPS = 2_000
NO_APPROVAL = ApprovalRule()
# These leave the job where it is.
_STAYS = frozenset({Action.DUPLICATE, Action.EDIT, Action.STOP})


@dataclass(frozen=True, slots=True)
class ActionReport:
    """The results of an action, one per target and in order; `undo_batch` holds the jobs that it deleted."""

    results: tuple[ActionResult, ...]
    undo_batch: str | None = None

    def count(self, outcome: Outcome) -> int:
        """The number of results with this outcome."""
        return sum(each.outcome is outcome for each in self.results)

    @property
    def worst(self) -> ActionResult | None:
        """The first result that is not `done`; None when all are."""
        return next((each for each in self.results if each.outcome is not Outcome.DONE), None)


def check_server(backend: Backend, server: str) -> None:
    """Raise Conflict when the backend's source is not at `server`: a dashboard with other settings on the same store
    can use the same name for another Redis. "" matches any server."""
    here = backend.source.address
    if server and server != here:
        raise Conflict(
            f"These jobs belong to {server}, but in this dashboard the source {backend.source.name!r} is {here}.",
            hint="Use the dashboard that watches that server, and give each dashboard its own store_prefix.",
        )


class ActionService:
    """Runs actions on the sources of one process. All methods raise BackendUnavailable when a server does not respond.

    `left` is called with the jobs that an action removed from a list, `changed` after every other change, so that
    pages stay current. `pauses` records who pauses a queue. `approval`: which actions are refused, because a second
    person has to approve them.
    """

    def __init__(
        self,
        backend_of: BackendOf,
        trash: Trash,
        audit_log: AuditLog,
        left: Callable[[QueueRef, State, Collection[str]], None] = lambda _ref, _state, _ids: None,
        changed: Callable[[], None] = lambda: None,
        pauses: PauseLog | None = None,
        approval: ApprovalRule = NO_APPROVAL,
    ) -> None:
        self.approval = approval
        self._backend_of = backend_of
        self.trash = trash
        self._deletion = JobDeletion(trash)
        self.audit_log = audit_log
        self._left = left
        self._changed = changed
        self._pauses = pauses

    def restricted_to(self, backend_of: BackendOf, trash: Trash) -> ActionService:
        """The same service, acting through these backends and this view of the trash."""
        return ActionService(backend_of, trash, self.audit_log, self._left, self._changed, self._pauses, self.approval)

    def on_jobs(
        self,
        actor: Actor,
        ref: QueueRef,
        state: State | None,
        action: Action,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
        *,
        reason: str | None = None,
        for_good: bool = False,
    ) -> ActionReport:
        """Act on at most MAX_BATCH jobs in one state of a queue (state None: jobs in no list), and record it.

        Deleted jobs go to the trash; raises Conflict when they do not fit there and `for_good` is not set.
        Raises Unsupported for an action that is not offered in this state, OutcomeUnknown when the connection to Redis
        is lost during a delete, ApprovalNeeded.
        """
        if len(job_refs) > MAX_BATCH:
            raise Conflict(f"At most {MAX_BATCH:,} jobs per action.", hint="Use a bulk operation for more.")
        self.approval.check(action, len(job_refs))
        backend = self._backend_of(ref.source, ref.backend)
        check_offered(backend, ref, state, action)
        undo_batch = new_undo_batch() if action is Action.DELETE else None
        event = audit_log.build_event(
            actor,
            action.value,
            ids=[job_ref.id for job_ref in job_refs],
            source=ref.source,
            backend=ref.backend,
            queue=ref.name,
            state=state.value if state else None,
            reason=reason,
            batch=None if for_good else undo_batch,
        )
        self.audit_log.log_intent(event)
        try:
            results = self.run_batch(
                backend, ref, state, action, job_refs, options, undo_batch, actor.name, for_good=for_good
            )
        except OutcomeUnknown as exc:
            self.audit_log.record_event(_with_outcomes(event, {"unknown": len(job_refs)}, f"{exc.message} {exc.hint}"))
            raise
        except QueuedeckError as exc:
            self.audit_log.record_event(_with_outcomes(event, {}, exc.message))
            raise
        self.audit_log.record_event(_with_outcomes(event, audit_log.count_outcomes(results), _first_detail(results)))
        restorable = not for_good and any(each.outcome is Outcome.DONE for each in results)
        return ActionReport(tuple(results), undo_batch if restorable else None)

    def run_batch(
        self,
        backend: Backend,
        ref: QueueRef,
        state: State | None,
        action: Action,
        job_refs: Sequence[JobRef],
        options: ActionOptions,
        undo_batch: str | None,
        who: str,
        *,
        for_good: bool = False,
    ) -> list[ActionResult]:
        """Run one batch of jobs and return one result per job reference, in order.

        Not recorded in the audit log: a bulk operation is recorded as a whole.
        """
        if action is Action.DELETE:
            assert undo_batch is not None
            results = self._deletion.delete_jobs(backend, ref, state, job_refs, undo_batch, who, for_good=for_good)
        else:
            assert state is not None  # jobs in no list can only be deleted
            results = backend.act_on_jobs(ref, action, state, job_refs, options)
        if action not in _STAYS and state is not None:
            self._left(ref, state, [each.id for each in results if each.outcome in (Outcome.DONE, Outcome.GONE)])
        return results

    def restore_batch(
        self,
        actor: Actor,
        undo_batch: str,
        *,
        ids: Sequence[str] | None = None,
        reason: str | None = None,
        bulk_id: str | None = None,
    ) -> ActionReport:
        """Restore an undo batch, or only the jobs `ids` of it, and record it; `bulk_id` is the bulk operation that
        deleted them, if any.

        Raises NotFound when no jobs are left, Conflict when this dashboard does not watch its source, or watches
        another server under that name. Bounded by the trash's cap.
        """
        about, count = self.trash.describe_batch(undo_batch)
        try:
            backend = self._backend_of(about.ref.source, about.ref.backend)
        except NotFound as exc:  # NotFound would mean that nothing is left to restore
            raise Conflict(exc.message, hint="Restore the jobs in the dashboard that watches this source.") from exc
        check_server(backend, about.server)
        event = audit_log.build_event(
            actor,
            "undo",
            source=about.ref.source,
            backend=about.ref.backend,
            queue=about.ref.name,
            state=about.state.value if about.state else None,
            count=count if ids is None else len(ids),
            reason=reason,
            bulk_id=bulk_id,
            batch=undo_batch,
        )
        self.audit_log.log_intent(event)
        results: list[ActionResult] = []
        detail: str | None = UNEXPECTED_ERROR
        try:
            for restored in self._deletion.restore_batch(backend, about.ref, about.place, undo_batch, ids):
                results += restored
            detail = _first_detail(results)
        except QueuedeckError as exc:
            detail = exc.message
            raise
        finally:
            self._changed()
            event = replace(event, ids=tuple(each.id for each in results[: audit_log.MAX_IDS]))
            self.audit_log.record_event(_with_outcomes(event, audit_log.count_outcomes(results), detail))
        return ActionReport(tuple(results))

    def restore_jobs(
        self, backend: Backend, ref: QueueRef, state: State, undo_batch: str, ids: Sequence[str], *, repeated: bool
    ) -> list[ActionResult]:
        """Restore jobs of an undo batch, not recorded. One result per id, in order; `gone` = not in the trash.

        `repeated`: a process may have done this and been killed before it recorded the result; jobs that are already
        restored count as `done`.
        """
        results = self._deletion.restore_jobs(backend, ref, state, undo_batch, ids, repeated=repeated)
        self._changed()
        return results

    def on_queue(self, actor: Actor, queue: QueueStats, action: Action, *, reason: str | None = None) -> ActionResult:
        """Act on a queue, in bounded steps until finished, and record it. Raises Unsupported, ApprovalNeeded."""
        self.approval.check(action, count_jobs(queue))
        backend = self._backend_of(queue.source, queue.backend)
        if action not in backend.queue_actions:
            raise Unsupported(
                backend.unsupported_reasons.get(action, f"{backend.title} does not support this action on queues.")
            )

        def act_in_steps() -> ActionResult:
            for _ in range(MAX_STEPS):
                result = backend.act_on_queue(queue.ref, action)
                if not result.more:
                    if action is Action.OBLITERATE:
                        self._changed()
                    return result
            return ActionResult(id=queue.name, outcome=Outcome.REFUSED, detail="Did not finish; try again.")

        result = self._act_on_one(actor, action, act_in_steps, queue.source, queue.backend, queue.name, reason)
        if result.outcome is Outcome.DONE and self._pauses is not None:
            if action is Action.PAUSE:
                self._pauses.record_pause(queue, actor.name, whole_library=backend.pauses_whole_library)
            elif action is Action.RESUME or (action is Action.OBLITERATE and not backend.pauses_whole_library):
                self._pauses.forget_pause(queue)
        return result

    def on_schedule(
        self, actor: Actor, schedule: Schedule, action: Action, *, reason: str | None = None
    ) -> ActionReport:
        """Act on a schedule, and record it. A removed schedule goes to the trash, if its library can restore it.

        Raises Conflict when it does not fit there, OutcomeUnknown when the connection to Redis is lost.
        """
        backend = self._backend_of(schedule.source, schedule.backend)
        if action not in backend.schedule_actions:
            raise Unsupported(
                backend.unsupported_reasons.get(action, f"{backend.title} does not support this action on schedules.")
            )
        undo_batch = new_undo_batch() if action is Action.REMOVE_SCHEDULE else None
        kept: list[str] = []

        def act() -> ActionResult:
            if undo_batch is None:
                return backend.act_on_schedule(schedule, action)
            result, restorable = self._deletion.remove_schedule(backend, schedule, undo_batch, actor.name)
            if restorable:
                kept.append(undo_batch)
            return result

        place = (schedule.source, schedule.backend, schedule.queue)
        result = self._act_on_one(actor, action, act, *place, reason, schedule.id, undo_batch)
        return ActionReport((result,), kept[0] if kept else None)

    def on_worker(self, actor: Actor, worker: Worker, action: Action, *, reason: str | None = None) -> ActionResult:
        """Act on a worker, and record it."""
        backend = self._backend_of(worker.source, worker.backend)
        if action not in backend.worker_actions:
            raise Unsupported(
                backend.unsupported_reasons.get(action, f"{backend.title} does not support this action on workers.")
            )
        return self._act_on_one(
            actor,
            action,
            lambda: backend.act_on_worker(worker, action),
            worker.source,
            worker.backend,
            None,
            reason,
            worker.id,
        )

    def _act_on_one(
        self,
        actor: Actor,
        action: Action,
        act: Callable[[], ActionResult],
        source: str,
        backend: str,
        queue: str | None,
        reason: str | None,
        target_id: str | None = None,
        undo_batch: str | None = None,
    ) -> ActionResult:
        event = audit_log.build_event(
            actor,
            action.value,
            ids=[target_id] if target_id else [],
            count=1,
            source=source,
            backend=backend,
            queue=queue,
            reason=reason,
            batch=undo_batch,
        )
        self.audit_log.log_intent(event)
        try:
            result = act()
        except QueuedeckError as exc:
            self.audit_log.record_event(_with_outcomes(event, {}, exc.message))
            raise
        self.audit_log.record_event(_with_outcomes(event, audit_log.count_outcomes([result]), result.detail))
        return result


def count_jobs(queue: QueueStats) -> int | None:
    """All jobs of a queue, as of its figures; None if one of its lists could not be counted."""
    lists = [each.count for each in queue.native]
    counts = lists or [count for state in State if (count := queue.counts.of(state)) is not None]
    if not counts or None in counts or queue.error is not None:
        return None
    return sum(count for count in counts if count is not None)


def check_offered(backend: Backend, ref: QueueRef, state: State | None, action: Action) -> None:
    """Raise Unsupported, with the reason, if `backend` does not offer `action` in `state`; None = in no list."""
    if action not in backend.offered_actions(state, shared=ref.shared, abandoned=True):
        such = f"{state.value} jobs" if state else "jobs that are in no list"
        raise Unsupported(
            backend.unsupported_reasons.get(action, f"{backend.title} does not support {action.value} for {such}.")
        )


def _with_outcomes(event: audit_log.AuditEvent, outcomes: dict[str, int], detail: str | None) -> audit_log.AuditEvent:
    return replace(event, outcomes=outcomes, detail=detail)


def _first_detail(results: Sequence[ActionResult]) -> str | None:
    return next((each.detail for each in results if each.outcome is not Outcome.DONE and each.detail), None)
