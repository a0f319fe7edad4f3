"""The page of the memory of queues: by library and queue, with the largest jobs of the sample."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from ....clock import now_s
from ....errors import BackendUnavailable, Forbidden
from ....memory_usage.memory_report import MemoryReport
from ...context import app_context, app_services
from ...views.servers.source_reports import AGAIN_S
from .. import layout
from .servers import check_source, tab_context

bp = Blueprint("redis_memory", __name__, url_prefix="/redis")

MAX_QUEUES = 100


@bp.get("/<segment:source>/memory")
def index(source: str) -> str:
    """The memory of the queues of one server. 404 for an unknown source. Cost: as SourceReports.read_report."""
    check_source(source)
    context: dict[str, Any] = {"report": None, "problem": None, "cost": layout.format_cost(0, 0, 0.0)}
    try:
        report = app_context().caches.memory_reports.read_report(source, again="again" in request.args)
    except (BackendUnavailable, Forbidden) as exc:
        context["problem"] = exc
    else:
        context |= _report_context(report)
    return layout.render_page("redis/memory.html", context | tab_context(source, "memory"))


def _report_context(report: MemoryReport) -> dict[str, Any]:
    age_s = max(0.0, now_s() - report.at)
    cost = layout.format_cost(report.commands, report.round_trips, report.seconds * 1000)
    queues = [queue for queue in report.queues if queue.estimate.total_bytes or not queue.is_complete]
    return {
        "report": report,
        "age_s_of_report": age_s,
        "may_measure_again": age_s > AGAIN_S,
        "queues": queues[:MAX_QUEUES],
        "more": queues[MAX_QUEUES:],
        "titles": app_services().sources.titles,
        "cost": f"{cost}, shared by all viewers",
    }
