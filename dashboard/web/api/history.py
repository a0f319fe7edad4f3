"""The last hour of a queue in the JSON API."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import NamedTuple

from flask import Blueprint, request

from ...clock import instant, iso
from ...errors import Unsupported
from ..context import app_context, app_services
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
    joined = max(1, math.ceil((_number_parameter("step_s") or 0) / past.step_s))
    start, end = _time_parameter("from"), _time_parameter("to")
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


def _number_parameter(name: str) -> float | None:
    text = request.args.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1e12:
        raise Unsupported(f"{name}={text[:50]!r}: expected a number.")
    return value


def _time_parameter(name: str) -> float | None:
    """A parameter in ISO 8601 or in seconds, as seconds since 1970."""
    text = request.args.get(name)
    if text is None or text.replace(".", "", 1).isdigit():
        return _number_parameter(name)
    try:
        # A plus sign that was not percent-encoded arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise Unsupported(f"{name}={text[:50]!r}: expected a time, such as 2026-11-25T10:00:00Z.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
