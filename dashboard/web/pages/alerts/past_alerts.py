"""The page of alerts as of a moment in the past: what was firing then, and what had ended."""

from __future__ import annotations

from typing import Any

from ....alerts.management.past_alerts import PastAlerts
from ....errors import BackendUnavailable, Forbidden
from ....history.columns import SOURCE
from ....history.series_keys import SeriesKey
from ....sources.metering import measure_cost
from ...context import app_context, app_services
from ...views.moments.moment import Moment
from .. import layout
from ..moments.sample_data import sample_end_after, sample_end_of

TEMPLATE = "alerts/past.html"
MAX_FIRING = 50


def render_past(moment: Moment) -> str:
    """The page as of a moment. Cost: 2 round trips, and that of `PastAlertReader.firing_at`."""
    found, problem = PastAlerts(moment.at_s), None
    was_sampled: bool | None = None
    sample_end_s: int | None = None
    with measure_cost() as meter:
        try:
            found = app_services().alert_service.past_alerts.firing_at(moment.at_s)
            was_sampled = was_sampled_at(moment)
            # Of the incidents until then, or of what was firing.
            sample_end_s = sample_end_of(found.history) or sample_end_after(moment.at_s)
        except (BackendUnavailable, Forbidden) as exc:
            problem = exc
    context: dict[str, Any] = {
        "alerts": found,
        "most": MAX_FIRING,
        "problem": problem,
        "was_sampled": was_sampled,
        "sample_end_s": sample_end_s,
        "titles": app_services().sources.titles,
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
    }
    return layout.render_page(TEMPLATE, context)


def was_sampled_at(moment: Moment) -> bool | None:
    """Whether a checker was running then; None if no history is recorded. Raises BackendUnavailable, Forbidden.

    Cost: 2 round trips.
    """
    if app_services().settings.history_max_bytes == 0:
        return None
    key, window = SeriesKey(SOURCE), app_context().caches.past.window_of(moment)
    return app_services().history.read_slots([key], window.slots, moment.now_s)[key][-1].sampled_ms > 0
