"""The pages of workers and schedules: one list each for all libraries, read once per interval for all viewers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, render_template, request

from ...auth import Role
from ...backends.actions import Action
from ...model import Capability, Schedule, Worker, WorkerState
from ...sampling.live_lists import LiveRows
from .. import fragments
from ..access.security import has_role
from ..context import app_context
from ..views.flash import ActionFlash
from . import layout

bp = Blueprint("people", __name__)

WORKERS, SCHEDULES = "people/_workers.html", "people/_schedules.html"
# Worst first: workers that need attention are at the top.
STATES = (
    *(WorkerState.DEAD, WorkerState.SUSPECT, WorkerState.UNKNOWN),
    *(WorkerState.QUIET, WorkerState.BUSY, WorkerState.IDLE),
)
MAX_ROWS = 500
# A schedule later than this is marked as late: workers check for due jobs every few seconds.
LATE_S = 60.0


@bp.get("/workers")
def workers() -> str:
    """The page of workers."""
    return _render_page("people/workers.html", _worker_context())


@bp.get("/workers/_workers")
def workers_fragment() -> Response:
    """The part of the page that polls."""
    return _render_fragment(WORKERS, _worker_context())


@bp.get("/schedules")
def schedules() -> str:
    """The page of schedules."""
    return _render_page("people/schedules.html", _schedule_context())


@bp.get("/schedules/_schedules")
def schedules_fragment() -> Response:
    """The part of the page that polls."""
    return _render_fragment(SCHEDULES, _schedule_context())


def _render_page(template: str, context: dict[str, Any]) -> str:
    return render_template(
        template, **layout.page_context(app_context().current_snapshot(), context["price"]) | context
    )


def _render_fragment(template: str, context: dict[str, Any]) -> Response:
    response = fragments.render_live(template, context)
    response.headers[layout.PRICE] = context["price"]
    return response


def _worker_context() -> dict[str, Any]:
    live_rows = app_context().list_workers()
    rows = [row for row in live_rows.rows if _may_show(row.id, row.hostname, row.queues, row.state.value)]
    rows.sort(key=lambda row: (STATES.index(row.state), row.backend, row.source, row.id))
    counts = {state: sum(row.state is state for row in live_rows.rows) for state in STATES}
    return _shared_context(live_rows, rows, Capability.WORKERS) | {
        "counts": [(state.value, count) for state, count in counts.items() if count],
    }


def _schedule_context() -> dict[str, Any]:
    live_rows = app_context().list_schedules()
    rows = [row for row in live_rows.rows if _may_show(row.id, row.name, (row.queue or "",), row.kind)]
    far = datetime.max.replace(tzinfo=UTC)
    rows.sort(key=lambda row: (row.next_run_at or far, row.id))
    now = {source: app_context().now_s(source) for source in {row.source for row in rows}}
    late = {
        (row.source, row.backend, row.id, row.queue)
        for row in rows
        if row.next_run_at and not row.paused and now[row.source] - row.next_run_at.timestamp() > LATE_S
    }
    snapshot = app_context().current_snapshot().snapshot
    fixed = {queue.ref for queue in snapshot.queues if queue.read_only} if snapshot else set()
    return _shared_context(live_rows, rows, Capability.SCHEDULES) | {"late": late, "fixed": fixed}


def _offered_actions(source: str, name: str, capability: Capability) -> tuple[Action, ...]:
    backend = app_context().backend(source, name)
    return backend.worker_actions if capability is Capability.WORKERS else backend.schedule_actions


def _may_show(*parts: str | Sequence[str] | None) -> bool:
    wanted = request.args.get("q", "").strip().casefold()
    texts = [text for part in parts for text in ((part,) if isinstance(part, str) or part is None else part)]
    return not wanted or any(wanted in text.casefold() for text in texts if text)


def _shared_context(
    live_rows: LiveRows[Any], rows: Sequence[Worker] | Sequence[Schedule], capability: Capability
) -> dict[str, Any]:
    current = app_context().current_snapshot()
    snapshot = current.snapshot
    there = dict.fromkeys((queue.source, queue.backend) for queue in snapshot.queues) if snapshot else {}
    silent = {name for source, name in there if capability not in app_context().backend(source, name).capabilities}
    titles = app_context().backend_titles
    return {
        "rows": rows[:MAX_ROWS],
        "did": ActionFlash.read(request.args),
        "offered": {
            name: offered
            for source, name in (there if has_role(Role.OPERATOR) else ())
            if (offered := _offered_actions(source, name, capability))
        },
        "more": max(0, len(rows) - MAX_ROWS),
        "total": len(live_rows.rows),
        "q": request.args.get("q", "")[:200],
        "problems": [(source, titles.get(name, name), why) for source, name, why in live_rows.problems],
        "silent": sorted(titles.get(name, name) for name in silent),
        "titles": titles,
        "down": [source for source in snapshot.sources if not source.reachable] if snapshot else [],
        "price": layout.format_cost(live_rows.commands, live_rows.round_trips, live_rows.cost_s * 1000)
        + ", shared by all viewers",
    }
