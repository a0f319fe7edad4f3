"""What the notification channels are told about a bulk operation that a second person has to approve. Pure."""

from __future__ import annotations

from ...clock import instant
from ...units import format_count
from .operation import BulkOperation

MAX_LISTS = 3
MAX_NAME = 60


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
