"""The audit log page, for admins."""

from __future__ import annotations

import re

from flask import Blueprint, render_template, request

from ...backends.actions import Action
from ...errors import Unsupported
from ...sources.metering import measure_cost
from ..context import app_services
from ..views.flash import audit_label, outcome_text
from . import layout

bp = Blueprint("audit", __name__)

PER_PAGE = 100
_ENTRY = re.compile(r"([0-9]{1,20})-([0-9]{1,20})\Z")
# The maximum of each half of a stream entry id.
_MOST = 2**64 - 1


@bp.get("/audit")
def index() -> str:
    """The audit log, newest first; `before` = the id of the last event seen."""
    with measure_cost() as meter:
        events = app_services().action_service.audit_log.list_events(count=PER_PAGE, before=parse_cursor())
        # This also finds a delete whose response was lost.
        undo_batches = [event.batch for event in events if event.batch and event.action == Action.DELETE.value]
        left = app_services().action_service.trash.count_left(undo_batches)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    last = events[-1].id if len(events) == PER_PAGE else None
    return render_template(
        "audit/index.html",
        **layout.page_context(app_services().snapshots.current(), cost),
        events=events,
        left=left,
        before=request.args.get("before"),
        last=last,
        audit_label=audit_label,
        outcome_text=outcome_text,
        titles=app_services().sources.titles,
    )


def parse_cursor() -> str | None:
    """The event id in `before`; None without it. Raises Unsupported for an invalid id."""
    text = request.args.get("before")
    if not text:
        return None
    found = _ENTRY.match(text)
    # Redis rejects numbers of more than 64 bits, and a range that ends before the very first id.
    if found is None or not 0 < max(map(int, found.groups())) <= _MOST:
        raise Unsupported("before: expected the id of an audit event, such as 1760000000000-0.")
    return text
