"""The page of the memory of queues: by library and queue, with the largest jobs of the sample."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from ....memory_usage.memory_report import MemoryReport
from ...context import app_context
from .servers import render_report

bp = Blueprint("redis_memory", __name__, url_prefix="/redis")

MAX_QUEUES = 100


@bp.get("/<segment:source>/memory")
def index(source: str) -> str:
    """The memory of the queues of one server. 404 for an unknown source. Cost: as SourceReports.read_report."""
    return render_report(source, "memory", app_context().caches.memory_reports, _describe)


def _describe(report: MemoryReport) -> dict[str, Any]:
    queues = [queue for queue in report.queues if queue.estimate.total_bytes or not queue.is_complete]
    return {"queues": queues[:MAX_QUEUES], "more": queues[MAX_QUEUES:]}
