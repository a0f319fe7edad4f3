"""The page of all job classes: how many jobs, how many failed, how long they ran, and which became worse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request

from ....errors import BackendUnavailable, Forbidden
from ....history.classes.ranking import ClassRanking
from ....history.classes.windows import CLASS_RANGES, Window, last_end_s
from ....history.tiers import CLASS_HOURS, classes_until_s, written_within_s
from ...class_rankings import PAGE_WAIT_S, MeasuredRanking, RankingQuery
from ...context import app_context, app_services
from ...forms.job_query import asked_time
from ...views.classes.class_table import BY_CLASS, ClassQuery, build_class_table
from ...views.classes.compared_marks import FigureTimes, compare_marks, last_compared_s
from ...views.moments.moment import Moment
from .. import layout
from ..moments.asked_moment import asked_moment
from ..moments.sample_data import sample_end_after

bp = Blueprint("classes", __name__, url_prefix="/classes")

LIST = "classes/_list.html"
# A period can begin that much before its range.
LONGEST_SLOT_S = CLASS_HOURS.step_s
# A page of the past does not poll, so it waits longer for the list.
PAST_WAIT_S = 5.0
# With more queues than this, the text filter is the way to choose one.
MAX_QUEUE_NAMES = 200


@bp.get("")
def index() -> str:
    """The page of job classes, also as of a moment in the past."""
    moment = asked_moment()
    context = _context(moment)
    context["sample_end_s"] = _sample_end(context["class_query"], end_of(moment))
    return layout.render_page("classes/index.html", context)


@bp.get("/_classes")
def fragment() -> Response:
    """The part of the page that polls."""
    return layout.render_polled(LIST, _context(None))


def end_of(moment: Moment | None) -> float:
    """When the figures of now, or as of a moment, end at the latest; in seconds since 1970."""
    return app_services().store.now_s() if moment is None else float(moment.at_s)


def _context(moment: Moment | None) -> dict[str, Any]:
    services = app_services()
    end_s = end_of(moment)
    query = ClassQuery.of(request.args, asked_time("since"), end_s)
    marks, times = services.marks.recent_marks(), _figure_times(moment)
    if query.since_s is None:
        query = replace(query, since_s=last_compared_s(marks, times))
    found: MeasuredRanking | None = None
    problem = None
    try:
        found = find_ranking(query, moment, PAGE_WAIT_S if moment is None else PAST_WAIT_S)
    except (BackendUnavailable, Forbidden) as exc:
        problem = exc
    ranking = found.ranking if found else None
    return {
        "class_query": query,
        "marks_compared": compare_marks(marks, query.since_s, *_compared_windows(ranking), times),
        "ranges": list(CLASS_RANGES),
        "ranking": ranking,
        "table": build_class_table(ranking, query) if ranking else None,
        "problem": problem,
        "is_recorded": services.settings.history_max_bytes > 0,
        "titles": services.sources.titles,
        "cost": _format_cost(found),
        **_list_choices(ranking, query),
    }


def find_ranking(query: ClassQuery, moment: Moment | None, wait_s: float) -> MeasuredRanking | None:
    """The ranking of now, or as of a moment; None if it takes longer than `wait_s` seconds to compute.

    Raises BackendUnavailable, Forbidden. Cost: as `ClassRankings.find`.
    """
    now_s, caches = app_services().store.now_s(), app_context().caches
    wanted = RankingQuery(query.range_name, query.since_s, query.group == BY_CLASS)
    if moment is None:
        return caches.class_rankings.find(wanted, now_s, wait_s)
    return caches.past_class_rankings.find(wanted._replace(until_s=moment.at_s), now_s, wait_s)


def _sample_end(query: ClassQuery, end_s: float) -> int | None:
    """When the sample data ends that a list of figures until `end_s` is made of; None if it is made of none. Cost: as
    `sample_end_after`."""
    return sample_end_after(end_s - 2 * CLASS_RANGES[query.range_name] - LONGEST_SLOT_S)


def _figure_times(moment: Moment | None) -> FigureTimes:
    """Until when figures are stored, now or as of a moment."""
    now_s, within_s = app_services().store.now_s(), written_within_s(app_services().settings.sample_interval_s)
    if moment is None:
        return FigureTimes(now_s, now_s, classes_until_s(now_s, within_s), within_s)
    return FigureTimes(now_s, moment.at_s, last_end_s(moment.at_s, now_s, within_s), within_s)


def _compared_windows(ranking: ClassRanking | None) -> tuple[Window | None, Window | None]:
    """The slots since and until the moment that is compared with."""
    return (ranking.windows.since, ranking.windows.until) if ranking else (None, None)


def _list_choices(ranking: ClassRanking | None, query: ClassQuery) -> dict[str, Any]:
    """What the filters offer: the libraries, sources and queues of all classes."""
    rows = ranking.rows if ranking else ()
    queues = sorted({queue for queue in (query.queue, *(queue for row in rows for queue in row.queues)) if queue})
    return {
        "libraries": sorted({row.key.backend for row in rows}),
        "source_names": sorted({row.key.source for row in rows}),
        "queue_names": queues if len(queues) <= MAX_QUEUE_NAMES else [query.queue] if query.queue else [],
    }


def _format_cost(found: MeasuredRanking | None) -> str:
    if found is None:
        return layout.format_cost(0, 0, 0.0)
    cost = found.cost
    return layout.format_cost(cost.commands, cost.round_trips, cost.seconds * 1000) + ", shared by all viewers"
