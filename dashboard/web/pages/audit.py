"""The audit log page, for admins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import msgspec
from flask import Blueprint, Response, render_template, request

from ...actions.audit_filter import AuditFilter
from ...actions.audit_log import CLOCKS_DIFFER_S, AuditEvent, AuditLog, AuditPage, build_event
from ...actions.trash import KEEP_S
from ...backends.actions import Action
from ...clock import now_s
from ...errors import NotFound, QueuedeckError, Unsupported
from ...model import QueueStats
from ...sources.metering import measure_cost
from ..access.security import current_actor
from ..context import app_context, app_services
from ..forms.audit_query import asked_filters, audit_cursor, audit_filter
from ..views.audit_files import CSV_FILE, JSON_LINES, AuditFile
from ..views.audit_lines import ACTION_CHOICES, audit_line, has_job_ids, is_complete, names_object, place_word
from ..views.flash import OUTCOME_CHOICES, audit_label, outcome_text
from . import layout

bp = Blueprint("audit", __name__)

PER_PAGE = 100
# The most names that a field of the filter suggests.
MAX_NAMES = 200
# What the trash keeps.
RESTORABLE = frozenset({Action.DELETE.value, Action.REMOVE_SCHEDULE.value})


@bp.get("/audit")
def index() -> str:
    """The audit log, newest first; `before` = the id of the last event seen. Cost: see read_page, and 2 round trips."""
    wanted = audit_filter()
    with measure_cost() as meter:
        page = read_page(wanted)
        # This also finds a delete whose response was lost.
        deletions = [event for event in page.events if event.action in RESTORABLE]
        restorable_by_batch = app_services().action_service.trash.count_left(
            [event.batch for event in deletions if event.batch]
        )
        restorable_by_operation = app_services().trash_listing.count_left_by_operation(
            {event.bulk_id for event in deletions if event.bulk_id and not event.batch}
        )
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    asked = asked_filters()
    return render_template(
        "audit/index.html",
        **layout.page_context(app_services().snapshots.current(), cost),
        **_choices(page.events, wanted),
        page=page,
        max_events=app_services().action_service.audit_log.max_events,
        max_age_s=app_services().action_service.audit_log.max_age_s,
        wanted=wanted,
        asked=asked,
        only_bulk=wanted == AuditFilter(bulk_id=wanted.bulk_id) and wanted.bulk_id is not None,
        restorable_by_batch=restorable_by_batch,
        restorable_by_operation=restorable_by_operation,
        restorable=RESTORABLE,
        expired_before=now_s() - KEEP_S,
        before=request.args.get("before"),
        audit_line=audit_line,
        has_job_ids=has_job_ids,
        is_complete=is_complete,
        outcome_text=outcome_text,
        audit_label=audit_label,
        names_object=names_object,
        place_word=place_word,
        queue_of=_queue_of,
        titles=app_services().sources.titles,
    )


def read_page(wanted: AuditFilter) -> AuditPage:
    """The page of the log that the URL asks for. Raises Unsupported for an invalid `before`, BackendUnavailable.

    Cost: 1 round trip; with a filter, at most 12; of a bulk operation, 1 more to start where it began.
    """
    audit_log = app_services().action_service.audit_log
    return audit_log.list_page(_since_operation(wanted), count=PER_PAGE, before=audit_cursor())


@bp.get("/audit.csv")
def csv() -> Response:
    """The events that match the filter, as a CSV file."""
    return export_events(CSV_FILE)


@bp.get("/audit.jsonl")
def jsonl() -> Response:
    """The events that match the filter, as a file with one JSON object per line."""
    return export_events(JSON_LINES)


def export_events(file: AuditFile) -> Response:
    """The events that match the filter of the URL, oldest first, as a file that is sent while it is read.

    Raises Unsupported for an invalid filter, BackendUnavailable if not even the first part can be read. If a later
    part cannot be read, the last line says so, and the connection ends without the end of the response. The export is
    recorded in the audit log when it ends. Cost: see AuditLog.read_chunks, and 1 round trip.
    """
    if request.args.get("before"):
        raise Unsupported("before: an export has all events of its filter.")
    audit_log = app_services().action_service.audit_log
    chunks = audit_log.read_chunks(_since_operation(audit_filter()))
    first = next(chunks, ())
    filters = ", ".join(f"{name}={text}" for name, text in asked_filters().items())
    event = build_event(current_actor(), "export audit log", detail=f"{file.name}: {filters or 'all actions'}")
    audit_log.log_intent(event)
    response = Response(_Export(file, chain([first], chunks), audit_log, event), mimetype=file.mimetype)
    response.headers["Content-Disposition"] = f'attachment; filename="{file.name_at(event.at)}"'
    return response


class _Export:
    """The parts of a file, for one response. The export is recorded once: at the end of the file, or when the server
    closes the response earlier. An object that is only discarded records nothing.
    """

    def __init__(
        self, file: AuditFile, chunks: Iterable[tuple[AuditEvent, ...]], audit_log: AuditLog, event: AuditEvent
    ) -> None:
        self._file = file
        self._chunks = chunks
        self._audit_log = audit_log
        self._event = event
        self._sent: int | None = None  # None: not begun, or recorded

    def __iter__(self) -> Iterator[bytes]:
        self._sent = 0
        if self._file.head:
            yield self._file.head
        try:
            for chunk in filter(None, self._chunks):
                self._sent += len(chunk)
                yield self._file.write_events(chunk)
        except QueuedeckError as exc:
            yield self._file.write_failure(exc)
            self._record(f"; incomplete: {exc.message}")
            raise
        self._record("")

    def close(self) -> None:
        """Called by the server when it is done with the response."""
        self._record("; incomplete: the client closed the connection")

    def _record(self, failure: str) -> None:
        if self._sent is None:
            return
        outcomes: dict[str, int] | None = {} if failure else None
        event = msgspec.structs.replace(
            self._event, count=self._sent, outcomes=outcomes, detail=f"{self._event.detail}{failure}"
        )
        self._sent = None
        self._audit_log.record_event(event)


def _since_operation(wanted: AuditFilter) -> AuditFilter:
    """The filter, for a bulk operation limited to the time since it was created: nothing is recorded of it before.

    Cost: 1 round trip for a bulk operation.
    """
    if wanted.bulk_id is None or wanted.since_s is not None:
        return wanted
    try:
        created_at = app_services().bulk_store.get(wanted.bulk_id).request.created_at
    except NotFound:
        return wanted
    return replace(wanted, since_s=max(0.0, created_at - CLOCKS_DIFFER_S))


def _choices(events: Iterable[AuditEvent], wanted: AuditFilter) -> dict[str, Any]:
    """What the fields of the filter offer: users of the settings, queues of the sample, and what the page shows."""
    snapshot = app_services().snapshots.current().snapshot
    queues = {queue.name for queue in snapshot.queues if queue.name.isprintable()} if snapshot else set()
    people = {user.name for user in app_context().settings.users}
    sources = dict.fromkeys((*app_services().sources.sources, *((wanted.source,) if wanted.source else ())))
    known = {name for _, names in ACTION_CHOICES for name in names}
    return {
        "people": sorted(people | {event.who for event in events})[:MAX_NAMES],
        "queues": sorted(queues | {event.queue for event in events if event.queue})[:MAX_NAMES],
        "sources": list(sources),
        "actions": ACTION_CHOICES,
        "other_action": wanted.action if wanted.action and wanted.action not in known else None,
        "outcomes": OUTCOME_CHOICES,
    }


def _queue_of(event: AuditEvent) -> QueueStats | None:
    """The queue of an event; None if it is not in the sample."""
    snapshot = app_services().snapshots.current().snapshot
    return snapshot.find(event.source or "", event.backend or "", event.queue or "") if snapshot else None
