"""The history in the JSON API: the last hour from the snapshot, everything else as it is stored."""

from __future__ import annotations

import math
from typing import NamedTuple

from flask import Blueprint, request

from ...clock import instant, iso
from ...errors import NotFound, Unsupported
from ...history.columns import QUEUE, SOURCE, SeriesKind
from ...history.history_reader import choose_range
from ...history.series_keys import SeriesKey
from ...history.slots import FIGURES, figure_values
from ...history.tiers import HOUR_S
from ...model import QueueRef
from ..context import app_context, app_services
from ..forms.job_query import asked_amount, asked_time
from ..views.charts.chart_range import parse_range
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
    asked = parse_range(None, asked_time("from"), asked_time("to"), None, now)
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
