"""Workers and schedules of all libraries, each one list, read once per interval for all viewers of a process."""

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
from ..access.security import may
from ..context import deck
from ..views.flash import ActionFlash
from . import layout

bp = Blueprint("people", __name__)

WORKERS, SCHEDULES = "people/_workers.html", "people/_schedules.html"
# Worst first: who needs a person stands on top.
STATES = (
    *(WorkerState.DEAD, WorkerState.SUSPECT, WorkerState.UNKNOWN),
    *(WorkerState.QUIET, WorkerState.BUSY, WorkerState.IDLE),
)
MAX_ROWS = 500
# A schedule that is this late is told; a worker looks at the clock every few seconds.
LATE_S = 60.0


@bp.get("/workers")
def workers() -> str:
    """The page of workers."""
    return _page("people/workers.html", _workers())


@bp.get("/workers/_workers")
def workers_fragment() -> Response:
    """The part of it that polls."""
    return _fragment(WORKERS, _workers())


@bp.get("/schedules")
def schedules() -> str:
    """The page of schedules."""
    return _page("people/schedules.html", _schedules())


@bp.get("/schedules/_schedules")
def schedules_fragment() -> Response:
    """The part of it that polls."""
    return _fragment(SCHEDULES, _schedules())


def _page(template: str, context: dict[str, Any]) -> str:
    return render_template(template, **layout.shell(deck().reading(), context["price"]) | context)


def _fragment(template: str, context: dict[str, Any]) -> Response:
    response = fragments.live(template, context)
    response.headers[layout.PRICE] = context["price"]
    return response


def _workers() -> dict[str, Any]:
    board = deck().workers()
    rows = [row for row in board.rows if _fits(row.id, row.hostname, row.queues, row.state.value)]
    rows.sort(key=lambda row: (STATES.index(row.state), row.backend, row.source, row.id))
    counts = {state: sum(row.state is state for row in board.rows) for state in STATES}
    return _common(board, rows, Capability.WORKERS) | {
        "counts": [(state.value, count) for state, count in counts.items() if count],
    }


def _schedules() -> dict[str, Any]:
    board = deck().schedules()
    rows = [row for row in board.rows if _fits(row.id, row.name, (row.queue or "",), row.kind)]
    far = datetime.max.replace(tzinfo=UTC)
    rows.sort(key=lambda row: (row.next_run_at or far, row.id))
    now = {source: deck().now_s(source) for source in {row.source for row in rows}}
    late = {
        (row.source, row.backend, row.id, row.queue)
        for row in rows
        if row.next_run_at and not row.paused and now[row.source] - row.next_run_at.timestamp() > LATE_S
    }
    snapshot = deck().reading().snapshot
    fixed = {queue.ref for queue in snapshot.queues if queue.read_only} if snapshot else set()
    return _common(board, rows, Capability.SCHEDULES) | {"late": late, "fixed": fixed}


def _offered(source: str, name: str, capability: Capability) -> tuple[Action, ...]:
    backend = deck().backend(source, name)
    return backend.worker_actions if capability is Capability.WORKERS else backend.schedule_actions


def _fits(*parts: str | Sequence[str] | None) -> bool:
    wanted = request.args.get("q", "").strip().casefold()
    texts = [text for part in parts for text in ((part,) if isinstance(part, str) or part is None else part)]
    return not wanted or any(wanted in text.casefold() for text in texts if text)


def _common(
    board: LiveRows[Any], rows: Sequence[Worker] | Sequence[Schedule], capability: Capability
) -> dict[str, Any]:
    reading = deck().reading()
    snapshot = reading.snapshot
    there = dict.fromkeys((queue.source, queue.backend) for queue in snapshot.queues) if snapshot else {}
    silent = {name for source, name in there if capability not in deck().backend(source, name).capabilities}
    titles = deck().backend_titles
    return {
        "rows": rows[:MAX_ROWS],
        "did": ActionFlash.read(request.args),
        "offered": {
            name: offered
            for source, name in (there if may(Role.OPERATOR) else ())
            if (offered := _offered(source, name, capability))
        },
        "more": max(0, len(rows) - MAX_ROWS),
        "total": len(board.rows),
        "q": request.args.get("q", "")[:200],
        "problems": [(source, titles.get(name, name), why) for source, name, why in board.problems],
        "silent": sorted(titles.get(name, name) for name in silent),
        "titles": titles,
        "down": [source for source in snapshot.sources if not source.reachable] if snapshot else [],
        "price": layout.price(board.commands, board.round_trips, board.cost_s * 1000) + ", shared by all viewers",
    }
