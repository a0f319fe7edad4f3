"""The page of workers of all libraries, by library and name, so that a row keeps its place between polls."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from ...backends.actions import Action
from ...model import Capability, WorkerState
from ..context import app_services
from . import layout
from .live_lists import MAX_ROWS, list_context, matches_filter

bp = Blueprint("workers", __name__, url_prefix="/workers")

LIST = "workers/_list.html"
# Worst first: of more workers than a page shows, those that need attention are shown.
STATES = (
    *(WorkerState.DEAD, WorkerState.SUSPECT, WorkerState.UNKNOWN),
    *(WorkerState.QUIET, WorkerState.BUSY, WorkerState.IDLE),
)


@bp.get("")
def index() -> str:
    """The page of workers."""
    return layout.render_page("workers/index.html", _context())


@bp.get("/_workers")
def fragment() -> Response:
    """The part of the page that polls."""
    return layout.render_polled(LIST, _context())


def _context() -> dict[str, Any]:
    live_rows = app_services().workers.current_rows()
    rows = [row for row in live_rows.rows if matches_filter(row.id, row.hostname, row.queues, row.state.value)]
    if len(rows) > MAX_ROWS:
        rows.sort(key=lambda row: (STATES.index(row.state), row.backend, row.source, row.id))
    rows = sorted(rows[:MAX_ROWS], key=lambda row: (row.backend, row.source, row.id)) + rows[MAX_ROWS:]
    counts = {state: sum(row.state is state for row in live_rows.rows) for state in STATES}
    wanted = (Action.STOP_WORKER, Action.QUIET)
    return list_context(live_rows, rows, Capability.WORKERS, lambda backend: backend.worker_actions, wanted) | {
        "counts": [(state.value, count) for state, count in counts.items() if count],
    }
