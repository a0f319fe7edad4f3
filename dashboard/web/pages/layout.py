"""What all pages share: rendering a page and its polled part, the variables of the layout, the cost as text."""

from __future__ import annotations

from typing import Any

from flask import Response, render_template

from ...model import QueueStats
from ...sampling.snapshot_reader import CurrentSnapshot
from ...units import format_count
from .. import fragments
from ..context import app_context, app_services
from ..formatting import queue_title
from ..views.charts.recording_problem import find_recording_problem

COST_HEADER = "Queuedeck-Cost"


def render_page(template: str, context: dict[str, Any]) -> str:
    """A page of the newest sample; `context["cost"]` is its cost."""
    return render_template(template, **page_context(app_services().snapshots.current(), context["cost"]) | context)


def render_polled(template: str, context: dict[str, Any]) -> Response:
    """The polled part of a page, rendered for this request only, with its cost `context["cost"]` in a header."""
    response = fragments.render_live(template, context)
    response.headers[COST_HEADER] = context["cost"]
    return response


def page_context(current: CurrentSnapshot, cost: str) -> dict[str, Any]:
    """The variables of layout.html. They depend only on the sample."""
    return {
        "interval_s": app_context().settings.sample_interval_s,
        "age_s": current.age_s,
        "other_settings": current.other,
        "outage": fragments.current_outage(current),
        "sampled_at": current.snapshot.sampled_at if current.snapshot else None,
        "history_problem": find_recording_problem(current.snapshot, app_context().settings),
        "cost": cost,
    }


def format_cost(commands: int, round_trips: int, cost_ms: float) -> str:
    """A cost as text, such as "2 commands in 2 round trips, 1.3 ms"."""
    return f"{format_count(commands, 'command')} in {format_count(round_trips, 'round trip')}, {cost_ms:.1f} ms"


def name_to_type(queue: QueueStats) -> str:
    """What the user types to confirm an action on this queue: its name as the pages show it."""
    return queue_title(queue, app_services().sources.titles[queue.backend], 200)
