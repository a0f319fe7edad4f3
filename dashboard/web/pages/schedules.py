"""The page of schedules of all libraries: late ones first, then by library and name, so that a row keeps its place
between polls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response

from ...backends.actions import Action
from ...model import Capability, Schedule
from ...schedules.lateness import late_s
from ..context import app_services
from . import layout
from .live_lists import list_context, matches_filter

bp = Blueprint("schedules", __name__, url_prefix="/schedules")

LIST = "schedules/_list.html"
# A schedule later than this is marked as late: workers check for due jobs every few seconds.
LATE_S = 60.0


@bp.get("")
def index() -> str:
    """The page of schedules."""
    return layout.render_page("schedules/index.html", _context())


@bp.get("/_schedules")
def fragment() -> Response:
    """The part of the page that polls."""
    return layout.render_polled(LIST, _context())


def _context() -> dict[str, Any]:
    live_rows = app_services().schedules.current_rows()
    rows = [row for row in live_rows.rows if matches_filter(row.id, row.name, (row.queue or "",), row.kind)]
    late = _late_schedules(rows)
    rows.sort(key=lambda row: (_key_of(row) not in late, row.backend, row.source, row.name or row.id, *_key_of(row)))
    snapshot = app_services().snapshots.current().snapshot
    fixed = {queue.ref for queue in snapshot.queues if queue.read_only} if snapshot else set()
    wanted = (Action.TRIGGER, Action.PAUSE_SCHEDULE, Action.REMOVE_SCHEDULE)
    context = list_context(live_rows, rows, Capability.SCHEDULES, lambda backend: backend.schedule_actions, wanted)
    return context | {"late": late, "fixed": fixed}


def _key_of(row: Schedule) -> tuple[str, str, str, str]:
    return row.source, row.backend, row.id, row.queue or ""


def _late_schedules(rows: Sequence[Schedule]) -> dict[tuple[str, str, str, str], float]:
    """For how many seconds each schedule is late, by source, library, id and queue; only those later than LATE_S."""
    now = {source: app_services().sources.now_s(source) for source in {row.source for row in rows}}
    found = {_key_of(row): late_s(row, now[row.source]) for row in rows}
    return {key: late for key, late in found.items() if late is not None and late > LATE_S}
