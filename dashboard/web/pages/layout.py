"""What all pages share: the variables of the layout, and the line with the cost of a page."""

from __future__ import annotations

from typing import Any

from ...model import QueueStats
from ...sampling.snapshot_reader import CurrentSnapshot
from ..context import app_context, app_services
from ..formatting import queue_title

PRICE = "Queuedeck-Price"


def page_context(current: CurrentSnapshot, price_text: str) -> dict[str, Any]:
    """The variables of layout.html."""
    return {
        "interval_s": app_context().settings.sample_interval_s,
        "age_s": current.age_s,
        "other_settings": current.other,
        "sampled_at": current.snapshot.sampled_at if current.snapshot else None,
        "price": price_text,
    }


def format_cost(commands: int, round_trips: int, cost_ms: float) -> str:
    """A cost as text, such as "2 commands in 2 round trips, 1.3 ms"."""
    return (
        f"{commands} command{'' if commands == 1 else 's'} in "
        f"{round_trips} round trip{'' if round_trips == 1 else 's'}, {cost_ms:.1f} ms"
    )


def name_to_type(queue: QueueStats) -> str:
    """What the user types to confirm an action on this queue: its name as the pages show it."""
    return queue_title(queue, app_services().sources.titles[queue.backend], 200)
