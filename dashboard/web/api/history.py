"""The history in the JSON API: the last hour from the snapshot, everything else as it is stored."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from flask import Blueprint, request
from msgspec.structs import asdict

from ...clock import instant, iso
from ...errors import BackendUnavailable, NotFound, Unsupported
from ...history.classes.changes import ClassChange, ClassFigures, Regression
from ...history.classes.ranking import ClassRow
from ...history.columns import QUEUE, SOURCE, SeriesKind
from ...history.history_reader import choose_range
from ...history.series_keys import SeriesKey
from ...history.slots import FIGURES, figure_values
from ...history.tiers import HOUR_S
from ...model import Quality, QueueRef
from ..class_rankings import API_WAIT_S
from ..context import app_context, app_services
from ..forms.job_query import MAX_PAGE, asked_amount, asked_number, asked_time
from ..pages.classes.class_list import end_of, find_ranking
from ..pages.moments.asked_moment import asked_moment
from ..views.charts.chart_range import least_range_s, parse_range
from ..views.classes.class_table import BY_CLASS, SORTS, ClassQuery, build_class_table
from ..views.overview.overview_data import rounded
from .responses import JsonObject, Time, json_response

bp = Blueprint("api_history", __name__, url_prefix="/api/v1")


class HourMetric(NamedTuple):
    """A metric of the published last hour: the series of a QueueHistory, and its unit."""

    series: str
    unit: str


HOUR_METRICS = {
    "depth": HourMetric("depth", "jobs"),
    "dead": HourMetric("dead", "jobs"),
    "throughput_per_min": HourMetric("finished_per_min", "jobs/min"),
    "failed_per_min": HourMetric("failed_per_min", "jobs/min"),
}


class HistoryJson(JsonObject, frozen=True, kw_only=True):
    """A metric over time, as [time, value] points, oldest first; the value is null where it is unknown."""

    metric: str
    unit: str
    step_s: int
    points: list[tuple[Time | None, float | None]]


class ClassFiguresJson(JsonObject, frozen=True, kw_only=True):
    """The figures of a job class in one period. `runtime_total_s`: the run times of all its jobs together."""

    quality: Quality
    finished: int | None
    failed: int | None
    throughput_per_min: float | None
    error_ratio: float | None
    runtime_p50_s: float | None
    runtime_p95_s: float | None
    runtime_total_s: float | None


class ClassChangeJson(JsonObject, frozen=True, kw_only=True):
    """How the `figures` of a job class changed from the `earlier` ones. `runtime_p95_ratio`: the 95th percentile of its
    run times to the earlier one; `error_ratio_increase`: of the error ratio. Null with fewer than 20 jobs in one of the
    periods."""

    runtime_p95_ratio: float | None
    error_ratio_increase: float | None
    regressions: tuple[Regression, ...]
    figures: ClassFiguresJson | None
    earlier: ClassFiguresJson | None


class RankedClassJson(ClassFiguresJson, frozen=True, kw_only=True):
    """A job class with its figures in the range. `queue` is null if it stands for all `queues` of the class.
    `runtime_share_ratio`: its part of the run time of all classes. `before`: compared with the period before;
    `since`: after a moment, compared with before it, null if none is asked for."""

    source: str
    backend: str
    queue: str | None
    queues: tuple[str, ...]
    job_class: str
    runtime_share_ratio: float | None
    before: ClassChangeJson
    since: ClassChangeJson | None


class ClassListJson(JsonObject, frozen=True, kw_only=True):
    """Job classes with jobs between `start` and `end`, or in the period before. `before_stored`: whether that period is
    stored. `unread`: stored classes beyond the limit of what is read."""

    classes: list[RankedClassJson]
    total: int
    page: int
    per_page: int
    start: Time | None
    end: Time | None
    before_stored: bool
    unread: int


@bp.get("/queues/<segment:source>/<segment:backend>/<segment:name>/history")
@json_response
def history(source: str, backend: str, name: str) -> HistoryJson:
    """Retrieve a metric of a queue over time.

    Without `from`, and for the last hour: depth, dead, throughput_per_min and failed_per_min of the samples of the last
    hour, 15 s to 1 min apart. With an earlier `from`, and for all other metrics: what is stored, 10 s apart for one
    hour, 1 min for 48 hours, 15 min for 30 days, and at most 400 points. `from` and `to` are times; a longer `step_s`
    combines points: the maximum of levels, the rate over all of the time, the percentiles of all jobs. The last hour
    costs no command, the stored history 2 round trips.
    """
    ref = app_context().find_queue_stats(source, backend, name).ref
    metric = request.args.get("metric", "depth")
    start = asked_time("from")
    recent = start is None or app_services().store.now_s() - start <= HOUR_S
    if metric in HOUR_METRICS and recent:
        return _last_hour(ref, metric, start)
    return _stored(SeriesKey(QUEUE, source, backend, name), metric)


@bp.get("/history")
@json_response
def total_history() -> HistoryJson:
    """Retrieve a metric of all queues together over time, as it is stored.

    The metrics, the parameters and the points are those of a queue. Without `from`, the last 6 hours. 2 round trips.
    """
    return _stored(SeriesKey(QUEUE), request.args.get("metric", "depth"))


@bp.get("/sources/<segment:source>/history")
@json_response
def source_history(source: str) -> HistoryJson:
    """Retrieve a metric of a Redis server over time, as it is stored.

    `metric` is used_memory_bytes (the default), maxmemory_bytes, clients, blocked_clients, ops_per_s, keys,
    evicted_per_min, rejected_per_min, fragmentation_ratio, keyspace_hit_ratio or replica_lag_bytes. 2 round trips.
    """
    if source not in app_services().sources.sources:
        raise NotFound(f"There is no source {source!r}.")
    return _stored(SeriesKey(SOURCE, source), request.args.get("metric", "used_memory_bytes"))


_CHOICES = {"sort": SORTS, "group": ("queue", BY_CLASS), "dir": ("up", "down")}
MAX_PER_PAGE = 1000


@bp.get("/classes")
@json_response
def classes() -> ClassListJson:
    """List job classes: those that became slower or fail more first, then those whose jobs ran longest in all.

    `range` is 1h (the default), 24h, 7d or 30d. `since`: a time to compare with, beside the period before. Filter by
    `source`, `backend`, `queue` and `q` (part of the class or queue). `group=class` combines all queues of a class.
    `sort` is regressions, name, rate, failed, errors, p50, p95, trend, since or share; `dir` is up or down. Figures are
    of complete slots of 15 minutes, 2 hours from 24h on. Computed once per slot and process for all viewers; 503 if
    that takes longer than 30 s. With `at`, the range ends with the last stored slot before that moment.
    """
    for name, words in _CHOICES.items():
        if (word := request.args.get(name)) and word not in words:
            raise Unsupported(f"{name}={word[:20]!r}: expected {', '.join(words)}.")
    moment = asked_moment()
    query = ClassQuery.of(request.args, asked_time("since"), end_of(moment))
    query = replace(query, page=asked_number("page", 1, MAX_PAGE))
    per_page = asked_number("per_page", 200, MAX_PER_PAGE)
    found = find_ranking(query, moment, API_WAIT_S)
    if found is None:
        source = app_services().store.source.name
        raise BackendUnavailable("The figures of the classes are still being added up.", source=source, reason="busy")
    table = build_class_table(found.ranking, query, per_page)
    windows = found.ranking.windows
    return ClassListJson(
        classes=[_ranked_class(row, has_moment=query.since_s is not None) for row in table.rows],
        total=table.total,
        page=table.page,
        per_page=per_page,
        start=iso(instant(windows.current.start_s)),
        end=iso(instant(windows.current.end_s)),
        before_stored=windows.before is not None,
        unread=found.ranking.unread,
    )


def _ranked_class(row: ClassRow, *, has_moment: bool) -> RankedClassJson:
    key = row.key
    return RankedClassJson(
        source=key.source,
        backend=key.backend,
        queue=key.queue,
        queues=row.queues,
        job_class=key.job_class,
        runtime_share_ratio=rounded(row.runtime_share, 4),
        before=_class_change(row.change, row.figures, row.before),
        since=_class_change(row.since_change, row.since, row.until) if has_moment else None,
        **asdict(_class_figures(row.figures)),
    )


def _class_figures(figures: ClassFigures) -> ClassFiguresJson:
    return ClassFiguresJson(
        quality=figures.quality,
        finished=figures.finished,
        failed=figures.failed,
        throughput_per_min=rounded(figures.per_min, 4),
        error_ratio=rounded(figures.error_ratio, 4),
        runtime_p50_s=rounded(figures.p50_s, 4),
        runtime_p95_s=rounded(figures.p95_s, 4),
        runtime_total_s=rounded(figures.total_s),
    )


def _class_change(change: ClassChange, figures: ClassFigures | None, earlier: ClassFigures | None) -> ClassChangeJson:
    return ClassChangeJson(
        runtime_p95_ratio=rounded(change.slower_ratio),
        error_ratio_increase=rounded(change.error_increase, 4),
        regressions=change.regressions,
        figures=_class_figures(figures) if figures else None,
        earlier=_class_figures(earlier) if earlier else None,
    )


def _last_hour(ref: QueueRef, metric: str, start: float | None) -> HistoryJson:
    past = app_services().snapshots.current().history
    joined = max(1, math.ceil((asked_amount("step_s") or 0) / past.step_s))
    end = asked_time("to")
    points = past.points_of(ref, HOUR_METRICS[metric].series, joined)
    return HistoryJson(
        metric=metric,
        unit=HOUR_METRICS[metric].unit,
        step_s=past.step_s * joined,
        points=[
            (iso(instant(at)), value)
            for at, value in points
            if (start is None or at >= start) and (end is None or at <= end)
        ],
    )


def _stored(key: SeriesKey, metric: str) -> HistoryJson:
    known = _metrics_of(key.kind)
    if metric not in known:
        raise Unsupported(f"No history for {metric[:50]!r}.", hint=f"Available metrics: {', '.join(known)}.")
    now = app_services().store.now_s()
    least_s = least_range_s(app_services().settings.sample_interval_s)
    asked = parse_range(None, asked_time("from"), asked_time("to"), None, now, least_s=least_s)
    wanted = choose_range(key.kind, asked.start_s, asked.end_s, now, asked_amount("step_s") or 0)
    slots = app_services().history.read_slots([key], wanted, now)[key]
    values = figure_values(key.kind, metric, slots)
    return HistoryJson(
        metric=metric,
        unit=FIGURES[metric].unit,
        step_s=wanted.step_s,
        points=[(iso(instant(slot.start_s)), value) for slot, value in zip(slots, values, strict=True)],
    )


def _metrics_of(kind: SeriesKind) -> list[str]:
    return [name for name, figure in FIGURES.items() if figure.column in kind.names]
