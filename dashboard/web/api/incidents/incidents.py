"""What is known of a range of time, as JSON: the contents of an incident report."""

from __future__ import annotations

from typing import Literal

from flask import Blueprint

from ....clock import instant, iso
from ....incidents.affected_queues import AffectedQueue
from ....incidents.error_groups import IncidentGroup
from ...formatting import one_line
from ...pages.incidents.incident_pages import prepare_report
from ...views.incidents.alert_rows import AlertRow
from ...views.incidents.svg_chart import SvgChart
from ..responses import JsonObject, Time, json_response

bp = Blueprint("api_incidents", __name__, url_prefix="/api/v1")

MAX_MESSAGE = 400


class IncidentFigureJson(JsonObject, frozen=True, kw_only=True):
    """A figure over the range: `highest`, from when until when, and the `last` one; null where nothing is known.
    `metric` and `unit` are those of the history. `redis`: the name of the server that it is about."""

    metric: str
    unit: str
    redis: str | None
    highest: float | None
    highest_at: Time | None
    highest_until: Time | None
    last: float | None
    unknown_s: int


class IncidentAlertJson(JsonObject, frozen=True, kw_only=True):
    """An alert that was firing in the range. `ended_at` is null while it fires, or if its end is not stored."""

    severity: Literal["warning", "critical"]
    rule_name: str
    subject: str
    began_at: Time | None
    ended_at: Time | None
    lasted_s: float | None
    worst: str | None
    threshold: str | None
    firing: bool


class IncidentEventJson(JsonObject, frozen=True, kw_only=True):
    """A line of the timeline."""

    at: Time | None
    kind: Literal["firing", "resolved", "mark", "action", "pause"]
    text: str
    detail: str | None
    who: str | None
    link: str | None


class IncidentGroupJson(JsonObject, frozen=True, kw_only=True):
    """An error group. `count`: its jobs that died in the range and are still dead letters; `new`: first seen in it."""

    fingerprint: str
    error_class: str | None
    message: str | None
    count: int
    first_at: Time | None
    last_at: Time | None
    new: bool


class AffectedQueueJson(JsonObject, frozen=True, kw_only=True):
    """A queue that grew, or in which jobs failed, in the range. `depth_peak` was reached between `peak_at` and
    `peak_until`, a slot of the history."""

    source: str
    backend: str
    name: str
    depth_before: int | None
    depth_peak: int | None
    peak_at: Time | None
    peak_until: Time | None
    depth_after: int | None
    finished: int | None
    failed: int | None


class IncidentJson(JsonObject, frozen=True, kw_only=True):
    """What is known between `start` and `end`. Lists are limited as in the file; `missing`: sentences about what is
    unknown or left out. `audited`: whether actions are included."""

    start: Time | None
    end: Time | None
    scope: str
    figures: list[IncidentFigureJson]
    alerts: list[IncidentAlertJson]
    timeline: list[IncidentEventJson]
    error_groups: list[IncidentGroupJson]
    affected_queues: list[AffectedQueueJson]
    audited: bool
    missing: list[str]


@bp.get("/incident")
@json_response
def incident() -> IncidentJson:
    """Retrieve what is known of a range of time: alerts, timeline, errors, affected queues and highest figures.

    `from` and `to` are times; without them, `range` (1h by default). `source`, or `source`, `backend` and `queue`,
    limit it to a Redis or a queue. Actions are included for admins only. About 15 round trips, none within a minute.
    """
    report = prepare_report().report
    return IncidentJson(
        start=_time(report.start_s),
        end=_time(report.end_s),
        scope=report.scope_title,
        figures=[figure for chart in report.charts for figure in _figures(chart)],
        alerts=[_alert(row) for row in report.alerts.rows],
        timeline=[
            IncidentEventJson(
                at=_time(entry.at_s),
                kind=entry.kind,
                text=entry.text,
                detail=entry.detail or None,
                who=entry.who or None,
                link=entry.link,
            )
            for entry in report.timeline.entries
        ],
        error_groups=[_group(group) for group in report.groups.groups],
        affected_queues=[_queue(queue) for queue in report.affected.queues],
        audited=report.audited,
        missing=list(report.missing),
    )


def _time(seconds: float | None) -> str | None:
    return iso(instant(seconds))


def _figures(drawn: SvgChart) -> list[IncidentFigureJson]:
    return [
        IncidentFigureJson(
            metric=each.line.figure,
            unit=drawn.chart.unit,
            redis=drawn.about.removeprefix("Redis ") or None,
            highest=each.summary.highest,
            highest_at=_time(each.summary.highest_at_s),
            highest_until=_time(each.summary.highest_until_s),
            last=each.summary.last,
            unknown_s=each.summary.unknown_s,
        )
        for each in drawn.lines
    ]


def _alert(row: AlertRow) -> IncidentAlertJson:
    return IncidentAlertJson(
        severity="critical" if row.severity == "critical" else "warning",
        rule_name=row.rule,
        subject=row.place,
        began_at=_time(row.began_s),
        ended_at=_time(row.ended_s),
        lasted_s=row.lasted_s,
        worst=row.peak,
        threshold=row.threshold,
        firing=row.is_firing,
    )


def _group(group: IncidentGroup) -> IncidentGroupJson:
    return IncidentGroupJson(
        fingerprint=group.fingerprint,
        error_class=one_line(group.error_class, 200) if group.error_class else None,
        message=one_line(group.message, MAX_MESSAGE) if group.message else None,
        count=group.count,
        first_at=_time(group.first_at),
        last_at=_time(group.last_at),
        new=group.began,
    )


def _queue(queue: AffectedQueue) -> AffectedQueueJson:
    return AffectedQueueJson(
        source=queue.key.source,
        backend=queue.key.backend,
        name=queue.key.name,
        depth_before=queue.depth_before,
        depth_peak=queue.depth_peak,
        peak_at=_time(queue.peak_at_s),
        peak_until=_time(queue.peak_until_s),
        depth_after=queue.depth_after,
        finished=queue.finished,
        failed=queue.failed,
    )
