"""Restore what is in the trash: some jobs of a batch, or whole batches; many jobs as bulk operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ....actions.bulk.operation import BulkOperation
from ....actions.bulk.undo import undo_batches_of
from ....actions.trash import MAX_BATCHES, SPARE_BATCHES, DeletedBatch, check_undo_batch, nothing_left
from ....actions.trash_listing import TrashFilter, bulk_id_of, cursor_of
from ....backends.actions import MAX_BATCH, ActionResult, Outcome
from ....clock import monotonic_s
from ....errors import (
    BackendUnavailable,
    Conflict,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    QueuedeckError,
    UnreadableData,
    Unsupported,
)
from ...access.security import current_actor
from ...context import app_services
from ...views.flash import ActionFlash
from ..bulk.start import check_stopped, start_large_undo, undo_operation

# A request begins no further batch after this time; it can be continued.
RESTORE_S = 2.0
# What can be wrong with one of several batches without stopping the others.
_OF_ONE_BATCH = (BackendUnavailable, Conflict, Forbidden, Unsupported, UnreadableData)


@dataclass(slots=True)
class RestoreReport:
    """The results of what was restored immediately, and the bulk operations that restore the rest.

    `schedules` and `jobs`: whether these were among the batches. `not_begun`: the batches for which there was no time,
    in order. `cursor`: of `restore_matching`, where it stopped; None if it reached the end.
    """

    results: list[ActionResult] = field(default_factory=list)
    operations: list[BulkOperation] = field(default_factory=list)
    jobs: bool = False
    schedules: bool = False
    not_begun: tuple[str, ...] = ()
    cursor: str | None = None

    @property
    def flash(self) -> ActionFlash:
        """What was restored immediately, for the page that shows it."""
        verb = "undo_items" if self.jobs and self.schedules else "undo_schedule" if self.schedules else "undo"
        return ActionFlash.of(verb, self.results)

    def add(self, done: Sequence[ActionResult] | BulkOperation) -> None:
        """Add the results of a batch, or the operation that restores it."""
        if isinstance(done, BulkOperation):
            self.operations.append(done)
        else:
            self.results += done


def restore_matching(wanted: TrashFilter, cursor: str | None, reason: str | None) -> RestoreReport:
    """Restore all batches that match, the newest first, as far as RESTORE_S allows; `cursor` = where to continue.

    Raises Unsupported for an invalid cursor, NotFound when nothing matches or is left. Cost: as restore_batches.
    """
    most = MAX_BATCHES + SPARE_BATCHES
    batches = app_services().trash_listing.list_page(wanted, cursor=cursor, limit=most).batches
    if not batches:
        raise NotFound("There is nothing to restore: the trash holds nothing that matches.")
    report = restore_batches([batch.name for batch in batches], reason)
    if report.not_begun:
        number = next(number for number, batch in enumerate(batches) if batch.name == report.not_begun[0])
        report.cursor = cursor_of(batches[number - 1])
    return report


def restore_batches(undo_batches: Sequence[str], reason: str | None) -> RestoreReport:
    """Restore undo batches in this order: those with few jobs immediately, each other one by a bulk operation.

    A bulk operation of which all batches are given is undone as a whole. If one of several batches cannot be restored,
    as those of a source that is down, its jobs count as refused. Begins no batch after RESTORE_S. Raises NotFound when
    nothing is left; with one batch, also what prevents the restore: Conflict while the bulk operation that deleted the
    jobs is running, or for a source that is not watched. Cost: 2 round trips, up to 8 per batch, and those that restore
    the jobs.
    """
    until = monotonic_s() + RESTORE_S
    trash = app_services().action_service.trash
    left = trash.count_left([check_undo_batch(each) for each in undo_batches])
    if not left:
        raise nothing_left()
    run = _RestoreRun(left, trash.describe_batches(list(left)), reason)
    waiting = [each for each in undo_batches if each in left]
    for number, undo_batch in enumerate(waiting):
        if number and monotonic_s() >= until:
            run.report.not_begun = tuple(each for each in waiting[number:] if each not in run.undone)
            break
        run.restore(undo_batch)
    if not (run.report.results or run.report.operations or run.report.not_begun):
        raise nothing_left()
    return run.report


class _RestoreRun:
    """Restores the batches of one request."""

    def __init__(self, left: Mapping[str, int], origins: Mapping[str, DeletedBatch], reason: str | None) -> None:
        self._left = left
        self._origins = origins
        self._reason = reason
        self._down: dict[str, BackendUnavailable] = {}  # by source
        self.undone: set[str] = set()
        self.report = RestoreReport(
            jobs=any(about.schedule is None for about in origins.values()),
            schedules=any(about.schedule is not None for about in origins.values()),
        )

    def restore(self, undo_batch: str) -> None:
        """Restore a batch, unless the operation of an earlier one did, and add the result to the report."""
        if undo_batch in self.undone:
            return
        source = self._origins[undo_batch].ref.source if undo_batch in self._origins else ""
        if source in self._down:
            self._refuse(undo_batch, self._down[source])
            return
        operation = _operation_of(undo_batch)
        own = [] if operation is None else undo_batches_of(operation)
        # An operation that was stopped before it noted what it deleted has no batches of its own.
        whole = undo_batch in own and _all_left(own) <= self._left.keys()
        try:
            self.report.add(_restore_one(undo_batch, operation, self._reason, whole=whole))
            self.undone |= set(own) if whole else {undo_batch}
        except NotFound:
            return  # another user restored it in the meantime
        except _OF_ONE_BATCH as exc:
            if len(self._left) == 1 or _concerns_all(exc):
                raise
            if isinstance(exc, BackendUnavailable):
                self._down[exc.source] = exc
            self._refuse(undo_batch, exc)

    def _refuse(self, undo_batch: str, exc: QueuedeckError) -> None:
        self.report.results += [_refused(undo_batch, exc)] * self._left[undo_batch]


def restore_selected(undo_batch: str, ids: Sequence[str], reason: str | None) -> RestoreReport:
    """Restore some jobs of an undo batch: one result per id, in order; `gone` = no longer in the trash.

    Raises Conflict for too many, or while the bulk operation that deleted the jobs is running; NotFound when nothing is
    left of the batch.
    """
    if len(ids) > MAX_BATCH:
        raise Conflict(f"At most {MAX_BATCH:,} jobs per action.", hint="Restore the whole batch.")
    operation = _operation_of(check_undo_batch(undo_batch))
    if operation is not None:
        check_stopped(operation)
    results = _restore_now(undo_batch, operation, reason, tuple(dict.fromkeys(ids)))
    return RestoreReport(results, jobs=True)


def _restore_one(
    undo_batch: str, operation: BulkOperation | None, reason: str | None, *, whole: bool
) -> Sequence[ActionResult] | BulkOperation:
    if operation is not None:
        check_stopped(operation)
        if whole:
            return undo_operation(operation.id, reason)
    large = start_large_undo([undo_batch], reason)
    return _restore_now(undo_batch, operation, reason, None) if large is None else large


def _restore_now(
    undo_batch: str, operation: BulkOperation | None, reason: str | None, ids: Sequence[str] | None
) -> list[ActionResult]:
    services = app_services()
    bulk_id = None if operation is None else operation.id
    report = services.action_service.restore_batch(current_actor(), undo_batch, ids=ids, reason=reason, bulk_id=bulk_id)
    if bulk_id is not None:
        services.bulk_store.note_restored(bulk_id, report.count(Outcome.DONE))
    services.forget_live_rows()  # it may be a schedule
    return list(report.results)


def _operation_of(undo_batch: str) -> BulkOperation | None:
    """The bulk operation that deleted the jobs of a batch; None if there is none, or it is no longer stored."""
    bulk_id = bulk_id_of(undo_batch)
    try:
        return None if bulk_id is None else app_services().bulk_store.get(bulk_id)
    except NotFound:
        return None


def _all_left(undo_batches: Sequence[str]) -> set[str]:
    """Those of the batches that hold something. Cost: 1 round trip."""
    return set(app_services().action_service.trash.count_left(undo_batches))


def _concerns_all(exc: QueuedeckError) -> bool:
    """Whether no other batch can be restored either, or the outcome of this one is unknown."""
    if isinstance(exc, OutcomeUnknown):
        return True
    return isinstance(exc, BackendUnavailable) and exc.source == app_services().store.source.name


def _refused(undo_batch: str, exc: QueuedeckError) -> ActionResult:
    return ActionResult(id=undo_batch, outcome=Outcome.REFUSED, detail=exc.message)
