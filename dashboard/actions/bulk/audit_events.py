"""Bulk operations in words: their audit events, and the request to approve one."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ...clock import instant
from ...units import format_count
from .. import audit_log
from .operation import BulkOperation

# In the request to approve an operation.
MAX_LISTS = 3
MAX_NAME = 60


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


def describe_approval(operation: BulkOperation) -> str:
    """Who wants to do what with how many jobs of which queues, why, and until when, in one line."""
    request = operation.request
    places = [f"{_short(each.ref.name or each.ref.backend)} ({each.state.value})" for each in request.job_lists]
    more = f" and {len(places) - MAX_LISTS} more" if len(places) > MAX_LISTS else ""
    text = f"{_short(request.actor.name)} wants to {request.action.value} {format_count(operation.matched, 'job')}"
    text += f" of {', '.join(places[:MAX_LISTS])}{more}" if places else ""
    text += f", reason: {request.reason[:MAX_NAME]}" if request.reason else ""
    until = instant(operation.approval_until)
    return f"{text}. Approve or reject it until {until:%Y-%m-%d %H:%M} UTC." if until else f"{text}."


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
