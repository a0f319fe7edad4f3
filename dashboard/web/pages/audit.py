"""The audit log page, for admins."""

from __future__ import annotations

import re

from flask import Blueprint, render_template, request

from ...actions.audit_log import AuditEvent
from ...actions.trash import KEEP_S
from ...backends.actions import Action
from ...clock import now_s
from ...errors import NotFound, Unsupported
from ...sources.metering import measure_cost
from ..context import app_services
from ..views.flash import audit_label, outcome_text
from . import layout

bp = Blueprint("audit", __name__)

PER_PAGE = 100
CLOCKS_DIFFER_S = 600.0
# What the trash keeps.
RESTORABLE = frozenset({Action.DELETE.value, Action.REMOVE_SCHEDULE.value})
_ENTRY = re.compile(r"([0-9]{1,20})-([0-9]{1,20})\Z")
# The maximum of each half of a stream entry id.
_MOST = 2**64 - 1


@bp.get("/audit")
def index() -> str:
    """The audit log, newest first; `before` = the id of the last event seen, `bulk` = only of this operation."""
    with measure_cost() as meter:
        bulk_id = request.args.get("bulk") or None
        events = _list_events(bulk_id)
        # This also finds a delete whose response was lost.
        deletions = [event for event in events if event.action in RESTORABLE]
        left = app_services().action_service.trash.count_left([event.batch for event in deletions if event.batch])
        left_of_bulk = app_services().trash_listing.count_left_by_operation(
            {event.bulk_id for event in deletions if event.bulk_id and not event.batch}
        )
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    last = events[-1].id if bulk_id is None and len(events) == PER_PAGE else None
    return render_template(
        "audit/index.html",
        **layout.page_context(app_services().snapshots.current(), cost),
        events=events,
        bulk_id=bulk_id,
        most=PER_PAGE,
        left=left,
        left_of_bulk=left_of_bulk,
        restorable=RESTORABLE,
        expired_before=now_s() - KEEP_S,
        before=request.args.get("before"),
        last=last,
        audit_label=audit_label,
        outcome_text=outcome_text,
        titles=app_services().sources.titles,
    )


def _list_events(bulk_id: str | None) -> list[AuditEvent]:
    """A page of the log, or the newest events of one bulk operation. Cost: 1 round trip, of an operation at most 12."""
    audit_log = app_services().action_service.audit_log
    if bulk_id is None:
        return audit_log.list_events(count=PER_PAGE, before=parse_cursor())
    try:
        # Nothing is recorded of an operation before it; clocks of two servers differ by less than this.
        since_s = app_services().bulk_store.get(bulk_id).request.created_at - CLOCKS_DIFFER_S
    except NotFound:
        since_s = 0.0
    return audit_log.list_events_of_operation(bulk_id, since_s=max(0.0, since_s), count=PER_PAGE)


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
