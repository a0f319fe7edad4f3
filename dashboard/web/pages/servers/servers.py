"""The pages of the Redis servers: all of them, and one of them with what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from flask import Blueprint, Response, request, url_for

from ....clock import now_s
from ....errors import BackendUnavailable, Forbidden, NotFound
from ....model import Snapshot, SourceStats
from ....sampling.snapshot_reader import CurrentSnapshot
from ...context import app_context, app_services
from ...views.servers.server_figures import FigureGroup, ServerFigure, figure_groups, main_figures, unknown_reason
from ...views.servers.source_reports import AGAIN_S, Report, SourceReports
from ...views.sparkline import line
from .. import layout
from ..moments.asked_moment import asked_moment
from .past_servers import past_list_context, past_server_context

bp = Blueprint("redis", __name__, url_prefix="/redis")

FIGURES = "redis/_figures.html"
CHART_SIZE = 240, 48
Describe: TypeAlias = Callable[[Report], dict[str, Any]]


@bp.get("")
def index() -> str:
    """The page of all servers; of the only one, if there is one. Also as of a moment in the past."""
    names = list(app_services().sources.sources)
    if len(names) == 1:
        return server(names[0])
    if (moment := asked_moment()) is not None:
        return layout.render_page("redis/index.html", past_list_context(moment))
    return layout.render_page("redis/index.html", _list_context())


@bp.get("/_servers")
def servers_fragment() -> Response:
    """The list of servers, which polls."""
    return layout.render_polled("redis/_servers.html", _list_context())


@bp.get("/<segment:source>")
def server(source: str) -> str:
    """The page of one server, also as of a moment in the past. 404 for an unknown source. Cost: as
    ServerReports.read_report, of the past as past_server_context."""
    check_source(source)
    if (moment := asked_moment()) is not None:
        return layout.render_page(
            "redis/past.html", past_server_context(source, moment) | tab_context(source, "server")
        )
    context = _figures_context(source)
    report = app_context().caches.server_reports.read_report(source)
    cost = layout.format_cost(report.commands, report.round_trips, report.cost_s * 1000)
    context |= {
        "report": report,
        "examined_s": max(0.0, now_s() - report.at),
        "cost": f"{cost}, shared by all viewers",
    }
    context |= tab_context(source, "server")
    return layout.render_page("redis/show.html", context)


@bp.get("/<segment:source>/_figures")
def figures_fragment(source: str) -> Response:
    """Its figures, which poll. Cost: none, they are those of the sample."""
    return layout.render_polled(FIGURES, _figures_context(source))


def render_report(source: str, tab: str, reports: SourceReports[Report], describe: Describe[Report]) -> str:
    """The page `redis/<tab>.html` of a report on one server; `describe` returns what only this page needs of it.

    404 for an unknown source. Cost: as SourceReports.read_report.
    """
    check_source(source)
    context: dict[str, Any] = {"report": None, "problem": None, "cost": layout.format_cost(0, 0, 0.0)}
    try:
        report = reports.read_report(source, again="again" in request.args)
    except (BackendUnavailable, Forbidden) as exc:
        context["problem"] = exc
    else:
        age_s = max(0.0, now_s() - report.at)
        cost = layout.format_cost(report.commands, report.round_trips, report.seconds * 1000)
        context |= {"report": report, "age_s_of_report": age_s, "may_repeat": age_s > AGAIN_S}
        context |= {"titles": app_services().sources.titles, "cost": f"{cost}, shared by all viewers"}
        context |= describe(report)
    return layout.render_page(f"redis/{tab}.html", context | tab_context(source, tab))


def tab_context(name: str, tab: str) -> dict[str, Any]:
    """What the head of each page of a server needs; `tab` is the one that is open."""
    sources = app_services().sources.sources
    return {"name": name, "address": sources[name].address, "several": len(sources) > 1, "tab": tab}


def check_source(name: str) -> None:
    """Raise NotFound if there is no source with this name."""
    if name not in app_services().sources.sources:
        raise NotFound(f"There is no source {name!r}.", hint=f"See {url_for('redis.index')} for all sources.")


def read_known_figures(current: CurrentSnapshot, name: str) -> tuple[SourceStats | None, float | None]:
    """(a source with its figures, when they were read if that was before an outage); None before the first sample.

    Seconds since 1970.
    """
    if current.snapshot is None:
        return None, None
    known, taken_at = app_services().snapshots.last_known.fill(current.snapshot)
    return find_stats(known, name), taken_at.get(name)


def find_stats(snapshot: Snapshot, name: str) -> SourceStats | None:
    """The source of that name in a snapshot; None if it is not in it yet."""
    return next((source for source in snapshot.sources if source.name == name), None)


def figures_of(stats: SourceStats, *, is_last_known: bool) -> tuple[tuple[ServerFigure, ...], tuple[FigureGroup, ...]]:
    """The main figures of a source, and the others by topic."""
    scale = app_context().caches.alert_facts(with_pauses=False).thresholds.for_source(stats)
    why = unknown_reason(stats, is_last_known)
    return main_figures(stats, scale, why), figure_groups(stats, scale, why)


def _figures_context(name: str) -> dict[str, Any]:
    check_source(name)
    current = app_services().snapshots.current()
    stats, taken_at = read_known_figures(current, name)
    main, groups = figures_of(stats, is_last_known=taken_at is not None) if stats else ((), ())
    points = [value for _, value in current.history.memory_points(name)]
    return {
        "name": name,
        "stats": stats,
        "taken_at": taken_at,
        "figures": main,
        "groups": groups,
        "memory_path": line(tuple(points), len(points), *CHART_SIZE),
        "cost": layout.format_cost(0, 0, 0.0),
    }


def _list_context() -> dict[str, Any]:
    current = app_services().snapshots.current()
    rows = []
    for name, source in app_services().sources.sources.items():
        stats, taken_at = read_known_figures(current, name)
        figures = figures_of(stats, is_last_known=taken_at is not None)[0] if stats else ()
        rows.append((name, source.address, stats, taken_at, figures))
    return {"rows": rows, "cost": layout.format_cost(0, 0, 0.0)}
