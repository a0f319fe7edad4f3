"""The page of leftovers: jobs that no list names, ids without a job, jobs of workers that are gone."""

from __future__ import annotations

from flask import Blueprint

from ....leftovers.leftover_report import LeftoverKind
from ...context import app_context
from .servers import render_report

bp = Blueprint("redis_leftovers", __name__, url_prefix="/redis")

# Kind -> why it matters, what to do.
TEXTS = {
    LeftoverKind.UNLISTED: (
        "No worker will run them, and their data takes memory. They are left when a list is deleted without its jobs, "
        "or when a client stops between two commands.",
        "Open a job to delete it, or to enqueue it again where its library allows that. A deleted job can be restored "
        "from the trash for 24 hours.",
    ),
    LeftoverKind.MISSING: (
        "Workers skip these IDs or fail on them, and the queue looks longer than it is. The data of the jobs was "
        "evicted, has expired, or was deleted without the ID.",
        "There is no repair yet. If Redis evicts keys, set maxmemory-policy to noeviction first.",
    ),
    LeftoverKind.UNLOCKED: (
        "They count as running, but their lock has expired: the worker died or does not respond.",
        "Open a job to retry or delete it. A worker of the queue that starts again also finds them.",
    ),
    LeftoverKind.PRIVATE: (
        "Reliable fetchers keep the jobs of a worker in a list of its own. No worker reads these lists any more.",
        "There is no repair yet. A worker with the same fetcher recovers them when it starts.",
    ),
}


@bp.get("/<segment:source>/leftovers")
def index(source: str) -> str:
    """The leftovers on one server. 404 for an unknown source. Cost: as SourceReports.read_report."""
    return render_report(source, "leftovers", app_context().caches.leftover_reports, lambda _: {"texts": TEXTS})
