"""The overview: problems, figures, the Redis servers, and all queues as a table or a heat map; and the wall board."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, render_template, request

from ...errors import Unsupported
from ...forecasts.wording import format_time_left
from ...model import Snapshot, State
from ...sampling.recent_history import History, Point, known_sum
from ...sampling.snapshot_reader import CurrentSnapshot
from ...sources.metering import measure_cost
from ...units import format_duration, format_number, format_percent, shorten_at_least, shorten_number
from .. import fragments
from ..context import app_context, app_services
from ..formatting import duration, one_line, size
from ..views.moments.moment import Moment
from ..views.overview.heat_map import build_heat_map
from ..views.overview.overview_data import OverviewData
from ..views.overview.queue_table import HEAT, QueueTableQuery, build_table
from ..views.overview.recent_incidents import DAYS
from ..views.overview.wall_board import MAX_PROBLEMS as WALL_PROBLEMS
from ..views.overview.wall_board import MAX_QUEUES, build_headline, round_age
from ..views.problems import outage
from ..views.problems.checks import error_ratio_level
from ..views.problems.problem import Problem, ProblemKind, ProblemLevel, level_of
from ..views.problems.problem_list import ProblemLine
from ..views.sparkline import line
from . import layout
from .moments.asked_moment import asked_moment
from .moments.sample_data import sample_end_after, sample_end_of

bp = Blueprint("overview", __name__)

TEMPLATE = "overview/_overview.html"
WALL = "overview/_wall.html"
MAX_PROBLEMS = 4
SPARK_SIZE = (132, 36)
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class OverviewFigure:
    """One of the five figures; `value` is formatted, `path` draws its last hour."""

    label: str
    value: str
    title: str
    path: str
    change: str
    level: ProblemLevel = ProblemLevel.OK
    estimated: str | None = None


@bp.get("/")
def index() -> str:
    """The page; with `wall=1` the wall board."""
    current = app_services().snapshots.current()
    query = QueueTableQuery.of(request.args)
    moment = asked_moment()
    if moment is not None:
        if is_wall_board():
            raise Unsupported("The wall board only shows now.", hint="Open the overview with at= and without wall=1.")
        return render_past(current, query, moment)
    variables = layout.page_context(current, format_sample_cost(current))
    if not is_wall_board():
        return render_template("overview/index.html", **variables, **overview_context(current, query))
    return render_template("overview/wall.html", **variables, **wall_context(current, query.filters))


@bp.get("/_overview")
def fragment() -> Response:
    """The part of the page that polls. Rendered once per sample and query, for any number of viewers."""
    current = app_services().snapshots.current()
    query = QueueTableQuery.of(request.args)
    version = f"{current.version}:{app_context().caches.alert_status().version}"
    if is_wall_board():
        query = query.filters
        response = fragments.render_fragment(WALL, query.key, lambda: wall_context(current, query), version)
    else:
        response = fragments.render_fragment(TEMPLATE, query.key, lambda: overview_context(current, query), version)
    response.headers[layout.COST_HEADER] = format_sample_cost(current)
    return response


def is_wall_board() -> bool:
    """Whether the URL asks for the wall board."""
    return request.args.get("wall") == "1"


def overview_context(current: CurrentSnapshot, query: QueueTableQuery) -> dict[str, Any]:
    """The variables of the fragment; they depend only on the reading and the query."""
    answer, overview = _shared_context(current, query, MAX_PROBLEMS)
    if overview is None:
        return answer
    is_heat_map = query.view == HEAT and bool(overview.queues)
    span = len(current.history.totals.depth)
    return answer | {
        "heat": build_heat_map(overview, query, answer["titles"]) if is_heat_map else None,
        "table": None if is_heat_map else build_table(overview, query),
        "memory_levels": memory_levels(overview),
        "libraries": overview.libraries,
        "span": span,
        "span_text": span_text(current.history),
        "spark": lambda points: line(points, span, 72, 20),
        "searching": searching_text(overview.snapshot),
    }


def render_past(current: CurrentSnapshot, query: QueueTableQuery, moment: Moment) -> str:
    """The page as of a moment in the past. Cost: as PastViews.overview and firing."""
    caches = app_context().caches
    with measure_cost() as meter:
        past = caches.past.overview(moment, caches.alert_facts(with_pauses=False).thresholds)
        firing = caches.past.firing(moment)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    titles, view, overview = app_services().sources.titles, past.view, past.overview
    lines, span = overview.problem_lines, len(view.history.totals.depth)
    is_heat_map = query.view == HEAT and bool(overview.queues)
    return render_template(
        "overview/past.html",
        **layout.page_context(current, cost),
        **problem_counts(lines),
        view=view,
        firing=firing,
        is_recorded=app_services().settings.history_max_bytes > 0,
        snapshot=view.snapshot,
        query=query,
        titles=titles,
        figures=build_figures(overview),
        heat=build_heat_map(overview, query, titles) if is_heat_map else None,
        table=None if is_heat_map else build_table(overview, query),
        memory_levels=memory_levels(overview),
        libraries=overview.libraries,
        source_counts=overview.sources,
        overview_total=len(overview.queues),
        span_text=format_duration(view.window.trend_s),
        sample_end_s=sample_end_after(moment.at_s - view.window.trend_s),
        spark=lambda points: line(points, span, 72, 20),
        searching="",
        down=(),
        taken_at={},
    )


def memory_levels(overview: OverviewData) -> dict[str | None, ProblemLevel]:
    """The level of the memory of each Redis that has a problem with it."""
    worst_last = reversed(overview.problems)
    return {problem.source: problem.level for problem in worst_last if problem.kind is ProblemKind.MEMORY}


def problem_counts(lines: Sequence[ProblemLine], most: int = MAX_PROBLEMS) -> dict[str, Any]:
    """The lines of the list of problems that are shown, and how many problems the others are of."""
    return {
        "problem_lines": lines[:most],
        "more_problems": sum(line.queues for line in lines[most:]),
        "more_are_queues": all(line.problem.queue is not None for line in lines[most:]),
    }


def wall_context(current: CurrentSnapshot, query: QueueTableQuery) -> dict[str, Any]:
    """The variables of the wall board; they depend only on the reading and the query."""
    answer, overview = _shared_context(current, query, WALL_PROBLEMS)
    parts = [query.q and f"“{one_line(query.q, 40)}”", answer["titles"].get(query.library, query.library), query.source]
    answer["sample_end_s"] = sample_end_after(app_services().store.now_s() - DAYS * 86_400)
    answer["filter_text"] = ", ".join(part for part in parts if part)
    if overview is None:
        return answer
    found = outage.find_outage(current.snapshot, overview.snapshot.sampled_at)
    table = build_table(overview, query)
    return answer | {
        "headline": build_headline(
            current, overview.problems, found.label if found else None, answer["no_problems_text"]
        ),
        "down_names": overview.down,
        "round_age": round_age,
        "table": table,
        "rows": [row for group in table.groups for row in group.rows][:MAX_QUEUES],
    }


def _shared_context(
    current: CurrentSnapshot, query: QueueTableQuery, most_problems: int
) -> tuple[dict[str, Any], OverviewData | None]:
    """What the page and the wall board have in common, and its source; no source before the first sample."""
    snapshot = current.snapshot
    answer: dict[str, Any] = {
        "reading": current,
        "snapshot": snapshot,
        "query": query,
        "titles": app_services().sources.titles,
    }
    if snapshot is None:
        return answer, None
    overview = app_context().caches.overview_data(snapshot, current)
    lines = overview.problem_lines
    calm = no_problems_text(overview, current)
    recent = None if calm is None else app_context().caches.recent_incidents(snapshot.sampled_at)
    return answer | problem_counts(lines, most_problems) | {
        "snapshot": overview.snapshot,
        "no_problems_text": calm,
        "recent": recent,
        "sample_end_s": sample_end_of(recent.resolved) if recent else None,
        "taken_at": overview.taken_at,
        "figures": build_figures(overview),
        "source_counts": overview.sources,
        "overview_total": len(overview.queues),
        "down": [source for source in snapshot.sources if not source.reachable],
    }, overview


def no_problems_text(overview: OverviewData, current: CurrentSnapshot) -> str | None:
    """The line for an overview without problems; None while the figures are too old to say so, or without queues."""
    count, dead = len(overview.queues), overview.totals["dead"]
    if overview.problems or current.stale or not count:
        return None
    text = f"No problems in {format_number(count)} {'queue' if count == 1 else 'queues'}."
    if dead:
        text += f" {format_number(dead)} {'dead letter' if dead == 1 else 'dead letters'} to review."
    return text


def searching_text(snapshot: Snapshot) -> str:
    """The sources that are still scanned for queues, with their progress; "" when every scan is complete."""
    several = len(snapshot.sources) > 1
    parts = [
        (f" {source.name}" if several else "")
        + (f", {format_percent(source.search_progress)}" if source.search_progress else "")
        for source in snapshot.sources
        if source.reachable and not source.discovered
    ]
    return f"still scanning{';'.join(parts)}" if parts else ""


def format_sample_cost(current: CurrentSnapshot) -> str:
    """The cost of the sample that all viewers share; showing it to one more viewer costs nothing."""
    snapshot = current.snapshot
    if snapshot is None:
        return ""
    commands = sum(source.commands for source in snapshot.sources)
    trips = sum(source.round_trips for source in snapshot.sources)
    cost_ms = sum(source.cost_s for source in snapshot.sources) * 1000
    return f"last sample: {layout.format_cost(commands, trips, cost_ms)}, shared by all viewers"


def span_text(history: History) -> str:
    """How far back the sparklines reach, as text; "" before they begin."""
    span = len(history.totals.depth) * history.step_s
    if not span:
        return ""
    return "1 h" if span >= 3600 else format_duration(span)


def build_figures(overview: OverviewData) -> tuple[OverviewFigure, ...]:
    """Waiting, processed per minute, error ratio, dead letters, Redis memory."""
    sums, more, history, problems = overview.totals, overview.at_least, overview.history, overview.problems
    past, step_s = history.totals, history.step_s
    ratios = past.error_ratio
    growing = level_of(problems, ProblemKind.RISING, ProblemKind.DEAD_LETTERS)
    failing = error_ratio_level(
        sums["error_ratio"], sums["throughput_per_min"], overview.facts.thresholds.for_all_queues
    )
    return (
        OverviewFigure(
            "Waiting", _count_text(sums["depth"], State.WAITING in more),
            _figure_title(sums["depth"], "jobs can start now"),
            _sparkline_path(past.depth), _change_note(past.depth, sums["depth"], step_s),
        ),
        OverviewFigure(
            "Processed/min", _count_text(sums["throughput_per_min"], overview.is_throughput_at_least),
            _figure_title(sums["throughput_per_min"], "succeeded and failed jobs per minute, 5-minute average")
            + _lacking_note(sums),
            _sparkline_path(past.finished_per_min),
            _change_note(past.finished_per_min, sums["throughput_per_min"], step_s),
            estimated=overview.estimated,
        ),
        OverviewFigure(
            "Error ratio", format_percent(sums["error_ratio"]),
            "permanently failed jobs, of those processed in the last 5 minutes"
            if sums["error_ratio"] is not None
            else "no jobs processed in the last 5 minutes"
            if sums["throughput_per_min"] == 0 and not sums["throughput_unknown"]
            else "unknown: no queue reports both processed and failed jobs",
            _sparkline_path(ratios, top=max([0.05, *(ratio for ratio in ratios if ratio is not None)])), "",
            failing, overview.estimated,
        ),
        OverviewFigure(
            "Dead letters", _count_text(sums["dead"], State.DEAD in more),
            _figure_title(sums["dead"], "failed jobs that will not be retried"),
            _sparkline_path(past.dead), _change_note(past.dead, sums["dead"], step_s),
            growing,
        ),
        _memory_figure(overview.snapshot, history, problems),
    )  # fmt: skip


def _count_text(value: float | None, more: bool) -> str:
    return shorten_at_least(value) if more else shorten_number(value)


def _lacking_note(sums: Mapping[str, Any]) -> str:
    """How many queues are missing from the sum."""
    count = sums["throughput_unknown"]
    if not count or sums["throughput_per_min"] is None:
        return ""
    return f"; {count} {'queue reports' if count == 1 else 'queues report'} no rate, so there may be more"


def _memory_figure(snapshot: Snapshot, history: History, problems: Sequence[Problem]) -> OverviewFigure:
    healths = [source.health for source in snapshot.sources]
    used = known_sum(health.used_memory_bytes for health in healths)
    lacking = sum(health.used_memory_bytes is None for health in healths) if used is not None else 0
    # The limit of some of the servers says nothing about the memory of all.
    limits = [health.maxmemory_bytes for health in healths]
    limit = sum(each for each in limits if each) if limits and all(limits) and not lacking else 0
    series = [history.memory.get(source.name, ()) for source in snapshot.sources]
    longest = max((len(points) for points in series), default=0)
    padded = [(None,) * (longest - len(points)) + tuple(points) for points in series]
    # A sum without one of the servers would look like a change.
    points = tuple(None if None in column else known_sum(column) for column in zip(*padded, strict=True))
    level = level_of(problems, ProblemKind.MEMORY)
    change = _full_note(snapshot) or ("" if lacking else _change_note(points, used, history.step_s, size))
    return OverviewFigure(
        "Redis memory",
        f"{size(used)}+" if lacking else size(used),
        _memory_title(limit, limits, lacking),
        _sparkline_path(points),
        change or (f"of {size(limit)}" if limit else ""),
        level,
    )


def _full_note(snapshot: Snapshot) -> str:
    """Which server is full first, and when; "" if none is in the foreseeable future."""
    found = [(each.memory_full_in_s, each.name) for each in snapshot.sources if each.memory_full_in_s is not None]
    if not found:
        return ""
    left_s, name = min(found)
    return f"{f'{one_line(name, 20)} ' if len(snapshot.sources) > 1 else ''}full in {format_time_left(left_s)}"


def _memory_title(limit: int, limits: Sequence[int | None], lacking: int) -> str:
    if lacking:
        return f"without {lacking} of {len(limits)} servers, whose memory is unknown"
    return f"of {size(limit)}" if limit else "no limit set" if not any(limits) else "not every server has a limit"


def _sparkline_path(points: Sequence[Point], top: float | None = None) -> str:
    return line(points, len(points), *SPARK_SIZE, top=top)


def _figure_title(value: float | None, meaning: str) -> str:
    return f"unknown: {meaning}" if value is None else f"{format_number(value)} {meaning}"


def _change_note(
    points: Sequence[Point], now: float | None, step_s: float, as_text: Callable[[float], str] = shorten_number
) -> str:
    """The difference between a figure and its oldest known point: "+12 in 1 h", or "+12 since start (14 m)" while the
    history is shorter than an hour; "" when there is no such point."""
    known = [(age, point) for age, point in zip(range(len(points), 0, -1), points, strict=True) if point is not None]
    if now is None or len(known) < 2:
        return ""
    age, first = known[0]
    age_s = age * step_s
    whole = duration(age_s // 60 * 60 if age_s >= 60 else age_s)
    since = f"since start ({whole})" if age == len(points) and age_s < HOUR_S else f"in {whole}"
    if abs(now - first) < 0.005:
        return f"no change {since}"
    return ("+" if now > first else "−") + as_text(abs(now - first)) + f" {since}"
