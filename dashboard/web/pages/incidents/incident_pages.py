"""Incident reports: the page that prepares one, and the file for the post-mortem."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Blueprint, Response, g, render_template

from ....sources.metering import measure_cost
from ...access.security import may_open
from ...context import app_context, app_services
from ...forms.incident_query import MAX_NOTE, MAX_TITLE, IncidentQuery, encode_name, incident_query, scope_args
from ...views.charts.chart_range import RANGES
from ...views.incidents.report import IncidentReport, describe_limits
from .. import layout
from ..servers.servers import check_source

bp = Blueprint("incidents", __name__)

# The file may load nothing and run nothing, whatever is in it.
FILE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; sandbox"
)
MAX_NAMES, MAX_NAME = 300, 100  # to choose from


class Prepared(NamedTuple):
    """A report, what was asked for, and what reading it cost."""

    report: IncidentReport
    query: IncidentQuery
    cost: str


@bp.get("/incident")
def index() -> str:
    """The form for a report, and what the report contains. Cost: see IncidentReader.read_records."""
    found = prepare_report()
    file = render_file(found.report, found.query)
    current = app_services().snapshots.current()
    queues = current.snapshot.queues if current.snapshot else ()
    names = sorted({encode_name(queue.name) for queue in queues if not queue.shared and len(queue.name) <= MAX_NAME})
    return render_template(
        "incidents/index.html",
        **layout.page_context(current, found.cost),
        report=found.report,
        asked=found.query,
        scope_args=scope_args(found.query.scope) | found.query.texts,
        size_bytes=len(file),
        ranges=list(RANGES),
        sources=list(app_services().sources.sources),
        titles=app_services().sources.titles,
        queue_field=encode_name(found.query.scope.queue),
        names=names[:MAX_NAMES],
        max_title=MAX_TITLE,
        max_note=MAX_NOTE,
    )


@bp.get("/incident/download")
def download() -> Response:
    """The report as an HTML file that needs nothing else. Cost: none after the page, see IncidentReports."""
    found = prepare_report()
    response = Response(render_file(found.report, found.query), mimetype="text/html")
    response.headers["Content-Disposition"] = f'attachment; filename="{found.report.file_name}"'
    response.headers["Content-Security-Policy"] = FILE_POLICY
    return response


def prepare_report() -> Prepared:
    """The report of the URL, with the audit log for users who may open its page.

    Raises Unsupported for a wrong range or scope, NotFound for an unknown source or library, BackendUnavailable.
    """
    services = app_services()
    with measure_cost() as meter:
        now_s = services.store.now_s()
        query = incident_query(now_s, services.snapshots.current().snapshot)
        if query.scope.source:
            check_scope(query)
        report = app_context().caches.incident_reports.find(
            query.scope, query.wanted.start_s, query.wanted.end_s, now_s, audited=may_open("audit")
        )
    return Prepared(report, query, layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000))


def check_scope(query: IncidentQuery) -> None:
    """Raise NotFound for a source that is not watched, or a library that it does not have."""
    check_source(query.scope.source)
    if query.scope.backend:
        app_services().sources.backend(query.scope.source, query.scope.backend)


def render_file(report: IncidentReport, query: IncidentQuery) -> bytes:
    """The report as a file. Cost: none."""
    variables: dict[str, Any] = {"report": report, "title": query.title or "Incident report", "note": query.note}
    services = app_services()
    variables |= {"by": g.identity.name, "public_url": services.settings.public_url, "titles": services.sources.titles}
    variables |= {"limits": describe_limits(services.action_service.audit_log)}
    text: str = render_template("incidents/report.html", **variables)
    return text.encode("utf-8", "replace")
