"""Results of actions, bulk operations and events of the audit log as the API returns them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from ...actions.audit_log import AuditEvent
from ...actions.bulk.operation import BulkOperation, BulkPhase, JobOrder
from ...actions.trash import DeletedBatch
from ...backends.actions import Action, ActionResult, Outcome
from ...clock import instant, iso
from ...model import State
from .responses import ErrorDetailJson, JsonObject, Time

# Jobs that an undo did not restore, listed in its response.
MAX_REFUSED = 100


class ActedJson(JsonObject, frozen=True, kw_only=True):
    """The outcome of an action. `new_id` is the job that it created, `undo` the batch that restores a deleted job,
    `bulk_id` the bulk operation of a purge."""

    outcome: Outcome
    detail: str | None
    new_id: str | UnsetType | None = UNSET
    undo: str | UnsetType | None = UNSET
    bulk_id: str | UnsetType | None = UNSET
    error: ErrorDetailJson | UnsetType = UNSET


class NotRestoredJson(JsonObject, frozen=True, kw_only=True):
    """A job that was not restored."""

    id: str
    outcome: Outcome
    detail: str | None


class PutBackJson(JsonObject, frozen=True, kw_only=True):
    """The result of an undo. `refused` lists the first 100 jobs that were not restored."""

    error: ErrorDetailJson | UnsetType = UNSET
    restored: int
    changed: int
    refused: list[NotRestoredJson]
    bulk_id: str | None


class BulkListJson(JsonObject, frozen=True, kw_only=True):
    """A list whose jobs a bulk operation processes: one state of one queue."""

    source: str
    backend: str
    queue: str
    state: State


class BulkOperationJson(JsonObject, frozen=True, kw_only=True):
    """A bulk operation: `at` of `matched` jobs have been processed. Only an undo has `changed`.

    With the state `approval`, it waits until `approval_until` for someone who approves it.
    """

    bulk_id: str
    state: BulkPhase
    action: Action
    matched: int
    at: int
    done: int
    skipped: int
    failed: int
    outcomes: dict[str, int]
    pace_per_s: float
    limit: int | None
    order: JobOrder | None
    canary: int
    canary_failed: int
    canary_open: int
    note: str | None
    truncated: bool
    unread: tuple[str, ...]
    unread_count: int
    reason: str | None
    lists: list[BulkListJson]
    fingerprint: str | None
    undoes: str | None
    undoable: bool
    restored: int
    who: str
    created_at: Time | None
    ended_at: Time | None
    approval_until: Time | None
    approved_by: str | None
    changed: int | UnsetType = UNSET


class BulkOperationsJson(JsonObject, frozen=True, kw_only=True):
    """Bulk operations, newest first. `matching` are those of all pages, `total` all that are stored."""

    bulk: list[BulkOperationJson]
    matching: int
    total: int


class BulkStartJson(JsonObject, frozen=True, kw_only=True):
    """The jobs that a new bulk operation matches. Only a preview has `sample_ids`, and starts nothing."""

    bulk_id: str | None
    matched: int
    exact: bool
    unread: tuple[str, ...]
    scanned: int
    total: int | None
    sample_ids: list[str] | UnsetType = UNSET


class DeletedBatchJson(JsonObject, frozen=True, kw_only=True):
    """A delete that can be undone until `until`; `left` of its jobs are still deleted."""

    batch: str
    source: str
    backend: str
    queue: str
    state: State | None
    left: int
    who: str
    deleted_at: Time | None
    until: Time | None


class DeletedBatchesJson(JsonObject, frozen=True, kw_only=True):
    """Deletes that can be undone, newest first."""

    batches: list[DeletedBatchJson]


class AuditEventJson(JsonObject, frozen=True, kw_only=True):
    """One action. `outcomes`: the number of results per outcome, null before it has finished."""

    at: Time | None
    who: str
    role: str
    address: str | None
    action: str
    source: str | None
    backend: str | None
    queue: str | None
    state: str | None
    ids: list[str]
    count: int
    outcomes: dict[str, int] | None
    reason: str | None
    detail: str | None
    bulk_id: str | None
    batch: str | None
    id: str | None


class AuditEventsJson(JsonObject, frozen=True, kw_only=True):
    """Audit log events, newest first.

    `scanned`: the number of events read for this page; `next_before`: the `before` of the next page, null on the last.
    """

    events: list[AuditEventJson]
    scanned: int
    next_before: str | None


def json_result(result: ActionResult) -> ActedJson:
    """The result of an action as the API returns it."""
    return ActedJson(outcome=result.outcome, detail=result.detail, new_id=result.new_id)


def json_restored(results: Sequence[ActionResult], error: ErrorDetailJson | UnsetType) -> PutBackJson:
    """The result of an undo as the API returns it; `error` if no job was restored."""
    refused = [each for each in results if each.outcome is not Outcome.DONE]
    return PutBackJson(
        error=error,
        restored=len(results) - len(refused),
        changed=sum(each.outcome is Outcome.CHANGED for each in refused),
        refused=[
            NotRestoredJson(id=each.id, outcome=each.outcome, detail=each.detail) for each in refused[:MAX_REFUSED]
        ],
        bulk_id=None,
    )


def json_operation(operation: BulkOperation) -> BulkOperationJson:
    """A bulk operation as the API returns it."""
    bulk_request, outcomes = operation.request, operation.outcomes
    return BulkOperationJson(
        bulk_id=operation.id,
        state=operation.phase,
        action=bulk_request.action,
        matched=operation.matched,
        at=operation.processed,
        done=operation.done,
        skipped=operation.skipped,
        failed=operation.failed,
        outcomes=outcomes,
        pace_per_s=bulk_request.pace_per_s,
        canary=bulk_request.canary,
        canary_failed=operation.canary_failed,
        canary_open=operation.canary_open,
        limit=bulk_request.limit,
        order=bulk_request.order,
        note=operation.note,
        truncated=operation.truncated,
        unread=operation.unread,
        unread_count=operation.unread_count,
        reason=bulk_request.reason,
        lists=[
            BulkListJson(source=each.ref.source, backend=each.ref.backend, queue=each.ref.name, state=each.state)
            for each in bulk_request.job_lists
        ],
        fingerprint=bulk_request.fingerprint,
        undoes=bulk_request.undoes,
        undoable=operation.undoable,
        restored=operation.restored,
        who=bulk_request.actor.name,
        created_at=iso(instant(bulk_request.created_at)),
        ended_at=iso(instant(operation.ended_at)),
        approval_until=iso(instant(operation.approval_until)),
        approved_by=operation.approved_by,
    )


def json_started(operation: BulkOperation) -> BulkOperationJson:
    """An undo that runs as a bulk operation, as the API returns it."""
    changed = operation.outcomes.get(Outcome.CHANGED.value, 0)
    return replace(json_operation(operation), restored=operation.done, changed=changed)


def json_batch(undo_batch: str, deleted: DeletedBatch, left: int, until: float) -> DeletedBatchJson:
    """A delete that can be undone as the API returns it; see `Trash.list_batches`."""
    return DeletedBatchJson(
        batch=undo_batch,
        source=deleted.ref.source,
        backend=deleted.ref.backend,
        queue=deleted.ref.name,
        state=deleted.state,
        left=left,
        who=deleted.who,
        deleted_at=iso(instant(deleted.at)),
        until=iso(instant(until)),
    )


def json_event(event: AuditEvent) -> AuditEventJson:
    """An event of the audit log as the API returns it."""
    return AuditEventJson(**event.public())
