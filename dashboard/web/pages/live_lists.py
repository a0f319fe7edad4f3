"""What the pages of workers and schedules share: each lists all libraries, read once per interval for all viewers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flask import request

from ...auth import Role
from ...backends.actions import Action
from ...backends.base import Backend
from ...model import Capability, Schedule, Worker
from ...sampling.live_lists import LiveRows
from ..access.security import has_role
from ..context import app_services
from ..views.flash import ActionFlash
from ..views.offered_actions import why_unsupported
from . import layout

MAX_ROWS = 500


def matches_filter(*parts: str | Sequence[str] | None) -> bool:
    """Whether one of the texts contains what the user filters for; True without a filter."""
    wanted = request.args.get("q", "").strip().casefold()
    texts = [text for part in parts for text in ((part,) if isinstance(part, str) or part is None else part)]
    return not wanted or any(wanted in text.casefold() for text in texts if text)


def list_context(
    live_rows: LiveRows[Any],
    rows: Sequence[Worker] | Sequence[Schedule],
    capability: Capability,
    actions_of: Callable[[Backend], tuple[Action, ...]],
    wanted: Sequence[Action],
) -> dict[str, Any]:
    """The template variables of a list. `rows`: those that match the filter, in the order of the page. `capability`:
    what a library needs to report them. `actions_of`: the actions that a library offers on a row. `wanted`: those that
    a user looks for, the most important one first."""
    current = app_services().snapshots.current()
    snapshot = current.snapshot
    there = dict.fromkeys((queue.source, queue.backend) for queue in snapshot.queues) if snapshot else {}
    silent = {
        name for source, name in there if capability not in app_services().sources.backend(source, name).capabilities
    }
    titles = app_services().sources.titles
    down = [source for source in snapshot.sources if not source.reachable] if snapshot else []
    named = {source.name for source in down}  # said once, not for each of its libraries
    offered = {
        name: actions
        for source, name in (there if has_role(Role.OPERATOR) else ())
        if (actions := actions_of(app_services().sources.backend(source, name)))
    }
    shown = sorted({(row.source, row.backend) for row in rows[:MAX_ROWS]}) if has_role(Role.OPERATOR) else []
    return {
        "rows": rows[:MAX_ROWS],
        "flash": ActionFlash.read(request.args),
        "offered": offered,
        "withheld": list(
            dict.fromkeys(
                f"No buttons for {titles.get(name, name)}: "
                + why_unsupported(app_services().sources.backend(source, name), *wanted)
                for source, name in shown
                if name not in offered
            )
        ),
        "more": max(0, len(rows) - MAX_ROWS),
        "total": len(live_rows.rows),
        "q": request.args.get("q", "")[:200],
        "problems": [
            (source, titles.get(name, name), why) for source, name, why in live_rows.problems if source not in named
        ],
        "silent": sorted(titles.get(name, name) for name in silent),
        "titles": titles,
        "down": down,
        "cost": layout.format_cost(live_rows.commands, live_rows.round_trips, live_rows.cost_s * 1000)
        + ", shared by all viewers",
    }
