"""What the pages of Redis servers show as of a moment in the past: the figures of the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import BackendUnavailable, Forbidden
from ....history.columns import SOURCE
from ....history.past.past_figures import last_sampled_s, memory_as_of
from ....history.past.past_window import PastWindow
from ....history.series_keys import SeriesKey
from ....history.slots import Slot
from ....model import SourceStats
from ....sources.metering import Meter, measure_cost
from ...context import app_context, app_services
from ...views.moments.moment import Moment
from ...views.servers.past_server_figures import past_figure_groups, past_main_figures
from ...views.servers.server_figures import ServerFigure
from ...views.sparkline import line
from .. import layout
from ..moments.sample_data import sample_end_after

CHART_SIZE = 240, 48


def past_list_context(moment: Moment) -> dict[str, Any]:
    """The variables of the list of all servers as of a moment. Cost: 2 round trips."""
    services, window = app_services(), app_context().caches.past.window_of(moment)
    addresses = {name: source.address for name, source in services.sources.sources.items()}
    with measure_cost() as meter:
        found, problem = _read_slots(list(addresses), window, moment)
    rows = []
    for name, address in addresses.items():
        slots = found.get(name, ())
        figures = _main_figures(name, slots, window) if _is_sampled(slots) else ()
        rows.append((name, address, _stats_of(name, address) if figures else None, None, figures))
    return {
        "rows": rows,
        "window": window,
        "problem": problem,
        "sample_end_s": sample_end_after(window.start_s),
        "cost": _format_cost(meter),
    }


def past_server_context(name: str, moment: Moment) -> dict[str, Any]:
    """The variables of the page of one server as of a moment. Cost: 2 round trips, and that of PastViews.firing."""
    services, window = app_services(), app_context().caches.past.window_of(moment)
    with measure_cost() as meter:
        found, problem = _read_slots([name], window, moment)
        firing = app_context().caches.past.firing(moment, SeriesKey(SOURCE, name))
        sample_end_s = sample_end_after(moment.at_s - window.trend_s)
    slots = found.get(name, ())
    is_sampled = _is_sampled(slots)
    return {
        "window": window,
        "problem": problem,
        "firing": firing,
        "sample_end_s": sample_end_s,
        "stats": _stats_of(name, services.sources.sources[name].address) if is_sampled else None,
        "taken_at": None,
        "figures": _main_figures(name, slots, window) if is_sampled else (),
        "groups": past_figure_groups(slots, window.rate_points) if is_sampled else (),
        "memory_path": line(memory_as_of(slots), window.points, *CHART_SIZE),
        "last_sampled_s": last_sampled_s(slots, window.step_s),
        "is_recorded": services.settings.history_max_bytes > 0,
        "titles": services.sources.titles,
        "cost": _format_cost(meter),
    }


def _read_slots(
    names: Sequence[str], window: PastWindow, moment: Moment
) -> tuple[Mapping[str, Sequence[Slot]], BackendUnavailable | Forbidden | None]:
    """(the slots of each server, why they cannot be read). Cost: 2 round trips."""
    keys = [SeriesKey(SOURCE, name) for name in names]
    try:
        found = app_services().history.read_slots(keys, window.slots, moment.now_s)
    except (BackendUnavailable, Forbidden) as exc:
        return {}, exc
    return {key.source: slots for key, slots in found.items()}, None


def _is_sampled(slots: Sequence[Slot]) -> bool:
    return bool(slots) and slots[-1].cells is not None


def _stats_of(name: str, address: str) -> SourceStats:
    """A server that was sampled then; its figures are in `figures`."""
    return SourceStats(name=name, address=address, reachable=True)


def _main_figures(name: str, slots: Sequence[Slot], window: PastWindow) -> tuple[ServerFigure, ...]:
    thresholds = app_context().caches.alert_facts(with_pauses=False).thresholds
    return past_main_figures(slots, window.rate_points, thresholds.for_source(_stats_of(name, "")))


def _format_cost(meter: Meter) -> str:
    return layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
