"""The audit events of bulk operations: one when the jobs are listed, one at the end."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ...units import format_count
from .. import audit_log
from .operation import BulkOperation


def event_of(operation: BulkOperation, count: int) -> audit_log.AuditEvent:
    """The audit event of an operation."""
    request = operation.request
    refs = {job_list.ref for job_list in request.job_lists}
    one = next(iter(refs)) if len(refs) == 1 else None
    states = {job_list.state.value for job_list in request.job_lists}
    return audit_log.build_event(
        request.actor,
        request.action.value,
        count=count,
        source=one.source if one else None,
        backend=one.backend if one else None,
        queue=one.name if one else None,
        state=", ".join(sorted(states)) or None,
        reason=request.reason,
        bulk_id=operation.recorded_as,
    )


def event_at_end(operation: BulkOperation, ids: Sequence[str]) -> audit_log.AuditEvent:
    """The audit event of an operation that has finished; `ids` = its first jobs."""
    event = replace(event_of(operation, operation.matched), ids=tuple(ids), outcomes=operation.outcomes)
    detail = operation.note or operation.phase.value
    if operation.approved_by is not None:
        detail = f"{detail}; approved by {operation.approved_by}"
    if operation.unread_count:
        detail = f"{detail}; {format_count(operation.unread_count, 'list')} could not be read"
    return replace(event, detail=detail)
