"""The page of a queue as of a moment in the past: its figures and alerts of then. Jobs are only known as of now."""

from __future__ import annotations

from typing import Any

from flask import render_template

from ....errors import NotFound
from ....history.columns import QUEUE
from ....history.past.past_reader import PastView, Place
from ....history.series_keys import SeriesKey
from ....model import QueueRef, QueueStats, Snapshot
from ....sampling.recent_history import Point
from ....sources.metering import measure_cost
from ....units import format_duration
from ...context import app_context, app_services, find_queue
from ...views.moments.moment import Moment
from ...views.problems.checks import dead_growth
from ...views.problems.problem import ProblemKind, level_of
from ...views.problems.problem_list import AlertFacts, list_queue_problems
from ...views.sparkline import line
from .. import layout
from .sample_data import sample_end_after

CHART_SIZE = (240, 48)


def render_past_queue(source: str, backend: str, name: str, moment: Moment) -> str:
    """The page of a queue as of the moment, also of one that no longer exists.

    Raises NotFound for an unknown source or library, and for a queue that neither exists nor was recorded then;
    BackendUnavailable, Forbidden. Cost: as PastViews.queue and firing.
    """
    services, caches = app_services(), app_context().caches
    library = services.sources.backend(source, backend)
    current = services.snapshots.current()
    ref_now, exists = _find_now(current.snapshot, source, backend, name)
    place: Place = (source, backend, ref_now.name)
    with measure_cost() as meter:
        view = caches.past.queue(place, moment)
        firing = caches.past.firing(moment, SeriesKey(QUEUE, *place))
    queue = next(iter(view.snapshot.queues), None)
    if queue is None and exists is False:
        raise NotFound("This queue was not recorded at that moment, and does not exist now.")
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return render_template(
        "queues/past.html",
        **layout.page_context(current, cost),
        **({} if queue is None else _figures_of(queue, view)),
        ref=queue.ref if queue else ref_now,
        queue=queue,
        backend=library,
        titles=services.sources.titles,
        view=view,
        firing=firing,
        exists=exists,
        info=services.queue_directory.find(*place),
        is_recorded=services.settings.history_max_bytes > 0,
        sample_end_s=sample_end_after(moment.at_s - view.window.trend_s),
    )


def _find_now(snapshot: Snapshot | None, source: str, backend: str, name: str) -> tuple[QueueRef, bool | None]:
    """(the queue, whether it exists now; None while that is unknown: nothing was sampled yet, or not all was found)."""
    found = find_queue(snapshot, source, backend, name) if snapshot else None
    if found is not None:
        return found.ref, True
    sources = [each for each in snapshot.sources if each.name == source] if snapshot else []
    is_gone = any(each.reachable and each.discovered and not each.problems for each in sources)
    return QueueRef(source=source, backend=backend, name=name, key=name, shared=name == "*"), False if is_gone else None


def _figures_of(queue: QueueStats, view: PastView) -> dict[str, Any]:
    """The variables of queues/_figures.html and of the problems."""
    trend = view.history.history_of(queue)
    facts = AlertFacts(app_context().caches.alert_facts(with_pauses=False).thresholds)
    problems = list_queue_problems(queue, facts, dead_growth(queue, view.history))

    def chart(points: tuple[Point, ...]) -> str:
        return line(points, view.window.points, *CHART_SIZE)

    def ratio_chart(ratios: tuple[Point, ...]) -> str:
        top = max([0.05, *(ratio for ratio in ratios if ratio is not None)])
        return line(ratios, view.window.points, *CHART_SIZE, top=top)

    return {
        "problems": problems,
        "history": trend,
        "chart": chart,
        "ratio_chart": ratio_chart,
        "error_ratios": trend.error_ratio if trend else (),
        "error_level": level_of(problems, ProblemKind.FAILING),
        "dead_level": level_of(problems, ProblemKind.DEAD_LETTERS, ProblemKind.RISING),
        "span_text": format_duration(view.window.trend_s),
        "states": [
            (state, getattr(queue.counts, state)) for state in ("waiting", "active", "scheduled", "retrying", "dead")
        ],
    }
