"""The last hour of a queue in the JSON API."""

from __future__ import annotations

import math
from typing import NamedTuple

from flask import Blueprint, request

from ...clock import instant, iso
from ...errors import Unsupported
from ..context import app_context, app_services
from ..forms.job_query import asked_amount, asked_time
from .responses import JsonObject, Time, json_response

bp = Blueprint("api_history", __name__, url_prefix="/api/v1")


class HistoryMetric(NamedTuple):
    """A metric with a stored last hour: the series of a QueueHistory, and its unit."""

    series: str
    unit: str


METRICS = {
    "depth": HistoryMetric("depth", "jobs"),
    "dead": HistoryMetric("dead", "jobs"),
    "throughput_per_min": HistoryMetric("finished_per_min", "jobs/min"),
    "failed_per_min": HistoryMetric("failed_per_min", "jobs/min"),
}


class HistoryJson(JsonObject, frozen=True, kw_only=True):
    """The last hour of a metric, as [time, value] points, oldest first."""

    metric: str
    unit: str
    step_s: int
    points: list[tuple[Time | None, float | None]]


@bp.get("/queues/<segment:source>/<segment:backend>/<segment:name>/history")
@json_response
def history(source: str, backend: str, name: str) -> HistoryJson:
    """Retrieve the last hour of a metric of a queue.

    `metric` is depth, dead, throughput_per_min or failed_per_min; `from` and `to` narrow the time. Points are
    [time, value], oldest first; the value is null where there is no sample. `step_s` is at least the stored step (15 to
    60 s). A longer step combines points: the maximum of depth and dead, the mean of rates. Sends no commands to Redis.
    """
    ref = app_context().find_queue_stats(source, backend, name).ref
    metric = request.args.get("metric", "depth")
    if metric not in METRICS:
        raise Unsupported(f"No history for {metric[:50]!r}.", hint=f"Available metrics: {', '.join(METRICS)}.")
    past = app_services().snapshots.current().history
    joined = max(1, math.ceil((asked_amount("step_s") or 0) / past.step_s))
    start, end = asked_time("from"), asked_time("to")
    points = past.points_of(ref, METRICS[metric].series, joined)
    return HistoryJson(
        metric=metric,
        unit=METRICS[metric].unit,
        step_s=past.step_s * joined,
        points=[
            (iso(instant(at)), value)
            for at, value in points
            if (start is None or at >= start) and (end is None or at <= end)
        ],
    )
