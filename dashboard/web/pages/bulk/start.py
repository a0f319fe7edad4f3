"""Start bulk operations, and undo deletes: immediately, or as a bulk operation where there are many jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flask import g
from msgspec.structs import replace

from ....actions.audit_log import AuditEvent
from ....actions.bulk.audit_events import event_of
from ....actions.bulk.operation import ENDED, BulkOperation, BulkPhase, BulkRequest
from ....actions.bulk.selection import BulkPreview, preview_jobs
from ....actions.bulk.undo import build_batches_undo, build_undo, undo_batches_of
from ....backends.actions import Action, ActionResult, Outcome
from ....errors import Conflict, NotFound
from ...access.security import current_actor
from ...context import app_services
from ...formatting import printable
from ...views.flash import MISSED, NOT_RESTORED

# The most reasons that an undo reports for jobs that it did not restore.
MAX_REASONS = 5


def preview_operation(bulk_request: BulkRequest) -> BulkPreview:
    """The jobs that the operation would process; see preview_jobs and BulkStore.limit_request."""
    services = app_services()
    bulk_request = services.bulk_store.limit_request(bulk_request)
    most = services.settings.bulk_max_jobs
    return preview_jobs(bulk_request, services.sources.backend, services.dead_letter_jobs.known_of, most)


def start_operation(bulk_request: BulkRequest) -> str:
    """Store the operation, record who started it, and run it. Returns its id."""
    what = "undo of bulk operation" if bulk_request.action is Action.UNDO else "bulk operation"
    title = app_services().dead_letter_service.find_title(bulk_request.fingerprint)
    bulk_request = replace(bulk_request, error_title=title, token_of=g.identity.created_by)

    def make_event(bulk_id: str) -> AuditEvent:
        operation = BulkOperation(id=bulk_id, request=bulk_request, phase=BulkPhase.COLLECTING)
        return replace(event_of(operation, 0), action=f"start {what}", detail=describe_request(bulk_request))

    bulk_id = app_services().bulk_store.create(bulk_request, make_event)
    app_services().bulk_runner.start()
    return bulk_id


def describe_request(bulk_request: BulkRequest) -> str:
    """The request in one line: "delete, matching timeout, 100 per second"."""
    parts = [bulk_request.action.value]
    if bulk_request.for_good:
        parts.append("permanently")
    if bulk_request.options.target or bulk_request.to_origin:
        parts.append(f"to {bulk_request.options.target or 'origin queues'}")
    if bulk_request.fingerprint:
        parts.append(f"error {bulk_request.error_title or bulk_request.fingerprint}")
    if bulk_request.q:
        parts.append(f"matching {bulk_request.q}")
    if bulk_request.order is not None:
        parts.append(
            f"{bulk_request.order.value} {'first' if bulk_request.limit is None else f'{bulk_request.limit:,}'}"
        )
    parts.append(f"{bulk_request.pace_per_s:g} per second" if bulk_request.pace_per_s else "full speed")
    if bulk_request.canary:
        parts.append(f"canary of {bulk_request.canary}")
    return ", ".join(parts)


def check_matches(preview: BulkPreview) -> None:
    """Raise Conflict when no job matches."""
    if preview.exact and not preview.matched:
        raise Conflict("No jobs match. Nothing was started.", hint="Check the list: its jobs may have changed state.")


def undo_operation(bulk_id: str, reason: str | None) -> list[ActionResult] | BulkOperation:
    """Restore the jobs that the operation deleted: the results, or for many jobs the bulk operation that does it.

    Raises Conflict while the operation is running, NotFound when there is nothing to restore.
    """
    operation = app_services().bulk_store.get(bulk_id)
    check_stopped(operation)
    undo_batches = undo_batches_of(operation)
    under_way = undo_under_way(bulk_id) if undo_batches else None
    if under_way is not None:
        return under_way
    if undo_batches and not app_services().action_service.trash.is_small(undo_batches):
        return _start_undo(build_undo(operation, current_actor(), reason))
    results: list[ActionResult] = []
    for undo_batch in undo_batches:
        try:
            report = app_services().action_service.restore_batch(
                current_actor(), undo_batch, reason=reason, bulk_id=bulk_id
            )
        except NotFound:
            continue  # nothing in this list was deleted, or it is restored already
        app_services().bulk_store.note_restored(bulk_id, report.count(Outcome.DONE))
        results += report.results
    if not results:
        raise NotFound("There is nothing left to restore.", hint="Deleted jobs can be restored for 24 hours.")
    return results


def check_stopped(operation: BulkOperation) -> None:
    """Raise Conflict while the operation is running: it may be deleting the jobs that an undo would restore."""
    if operation.phase not in (*ENDED, BulkPhase.PAUSED, BulkPhase.APPROVAL):
        raise Conflict("This bulk operation is still running.", hint="Pause or abort it first.")


def start_large_undo(undo_batches: Sequence[str], reason: str | None) -> BulkOperation | None:
    """The bulk operation that restores these batches; None where they are small enough to restore immediately.

    Raises NotFound for a batch that no longer exists.
    """
    trash = app_services().action_service.trash
    if trash.is_small(undo_batches):
        return None
    left = trash.count_left(undo_batches)
    return _start_undo(
        build_batches_undo([each for each in undo_batches if each in left], trash, current_actor(), reason)
    )


def not_restored(results: Sequence[ActionResult]) -> Conflict | None:
    """The error of an undo that restored no job, with the reasons; None for one that restored some."""
    if any(each.outcome is Outcome.DONE for each in results):
        return None
    words = {**MISSED, **NOT_RESTORED}
    reasons = Counter(each.detail or words.get(each.outcome, each.outcome.value) for each in results)
    shown = "; ".join(f"{count:,} × {why}" if count > 1 else why for why, count in reasons.most_common(MAX_REASONS))
    return Conflict("No jobs were restored.", hint=printable(shown) or None)


def undo_under_way(name: str) -> BulkOperation | None:
    """The unfinished bulk operation that undoes the operation or batch of that name; None for none."""
    operation = app_services().bulk_store.find_last_undo(name)
    return operation if operation is not None and operation.phase not in ENDED else None


def _start_undo(bulk_request: BulkRequest) -> BulkOperation:
    under_way = undo_under_way(bulk_request.undoes or bulk_request.undo_batches[0])
    return under_way or app_services().bulk_store.get(start_operation(bulk_request))
