"""Start bulk operations, and undo deletes: immediately, or as a bulk operation where there are many jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from ...actions.audit_log import AuditEvent
from ...actions.bulk.audit_events import event_of
from ...actions.bulk.operation import ENDED, BulkOperation, BulkPhase, BulkRequest
from ...actions.bulk.selection import BulkPreview, preview_jobs
from ...actions.bulk.undo import batches_of, undo_of, undo_of_batches
from ...backends.actions import Action, ActionResult, Outcome
from ...errors import Conflict, NotFound
from ..access.security import current_actor
from ..context import app_services
from ..formatting import printable
from ..views.flash import MISSED

# The most reasons that an undo reports for jobs that it did not restore.
MAX_REASONS = 5


def preview_operation(spec: BulkRequest) -> BulkPreview:
    """The jobs that the operation would process; see preview_jobs."""
    services = app_services()
    most = services.settings.bulk_max_jobs
    return preview_jobs(spec, services.sources.backend, services.dead_letter_jobs.known_of, most)


def start_operation(spec: BulkRequest) -> str:
    """Store the operation, record who started it, and run it. Returns its id."""
    what = "undo of bulk operation" if spec.action is Action.UNDO else "bulk operation"

    def event(bulk_id: str) -> AuditEvent:
        operation = BulkOperation(id=bulk_id, spec=spec, phase=BulkPhase.COLLECTING)
        return replace(event_of(operation, 0), action=f"start {what}", detail=describe_request(spec))

    bulk_id = app_services().bulk_store.create(spec, event)
    app_services().bulk_runner.start()
    return bulk_id


def describe_request(spec: BulkRequest) -> str:
    """The request in one line: "delete, matching timeout, 100 per second"."""
    parts = [spec.action.value]
    if spec.for_good:
        parts.append("permanently")
    if spec.options.target or spec.to_origin:
        parts.append(f"to {spec.options.target or 'origin queues'}")
    if spec.fingerprint:
        parts.append(f"error {spec.fingerprint}")
    if spec.q:
        parts.append(f"matching {spec.q}")
    parts.append(f"{spec.pace_per_s:g} per second" if spec.pace_per_s else "full speed")
    if spec.canary:
        parts.append(f"canary of {spec.canary}")
    return ", ".join(parts)


def check_matches(seen: BulkPreview) -> None:
    """Raise Conflict when no job matches."""
    if seen.exact and not seen.matched:
        raise Conflict("No jobs match. Nothing was started.", hint="Check the list: its jobs may have changed state.")


def undo_operation(bulk_id: str, reason: str | None) -> list[ActionResult] | BulkOperation:
    """Restore the jobs that the operation deleted: the results, or for many jobs the bulk operation that does it.

    Raises Conflict while the operation is running, NotFound when there is nothing to restore.
    """
    operation = app_services().bulk_store.get(bulk_id)
    if operation.phase not in (*ENDED, BulkPhase.PAUSED):
        raise Conflict("This bulk operation is still running.", hint="Pause or abort it first.")
    batches = batches_of(operation)
    under_way = undo_under_way(bulk_id) if batches else None
    if under_way is not None:
        return under_way
    if batches and not app_services().action_service.undo_bin.is_small(batches):
        return _start_undo(undo_of(operation, current_actor(), reason))
    back: list[ActionResult] = []
    for batch in batches:
        try:
            results = (
                app_services().action_service.undo_batch(current_actor(), batch, reason=reason, bulk_id=bulk_id).results
            )
        except NotFound:
            continue  # nothing in this list was deleted, or it is restored already
        app_services().bulk_store.note_restored(bulk_id, sum(each.outcome is Outcome.DONE for each in results))
        back += results
    if not back:
        raise NotFound("There is nothing left to restore.", hint="Deleted jobs can be restored for 24 hours.")
    return back


def undo_batches(batches: Sequence[str], reason: str | None) -> BulkOperation | None:
    """The bulk operation that restores these batches; None where they are small enough to restore immediately.

    Raises NotFound for a batch that no longer exists.
    """
    if app_services().action_service.undo_bin.is_small(batches):
        return None
    left = app_services().action_service.undo_bin.count_left(batches)
    return _start_undo(
        undo_of_batches(
            [each for each in batches if each in left], app_services().action_service.undo_bin, current_actor(), reason
        )
    )


def not_restored(results: Sequence[ActionResult]) -> Conflict | None:
    """The error of an undo that restored no job, with the reasons; None for one that restored some."""
    if any(each.outcome is Outcome.DONE for each in results):
        return None
    reasons = Counter(each.detail or MISSED.get(each.outcome, each.outcome.value) for each in results)
    shown = "; ".join(f"{count:,} × {why}" if count > 1 else why for why, count in reasons.most_common(MAX_REASONS))
    return Conflict("No jobs were restored.", hint=printable(shown) or None)


def undo_under_way(name: str) -> BulkOperation | None:
    """The unfinished bulk operation that undoes the operation or batch of that name; None for none."""
    operation = app_services().bulk_store.undo_of(name)
    return operation if operation is not None and operation.phase not in ENDED else None


def _start_undo(spec: BulkRequest) -> BulkOperation:
    return undo_under_way(spec.undoes or spec.batches[0]) or app_services().bulk_store.get(start_operation(spec))
