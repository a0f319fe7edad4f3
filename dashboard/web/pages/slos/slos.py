"""The pages of service level objectives: all of them, and one with its error budget over time."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, render_template, url_for

from ....errors import BackendUnavailable, Forbidden, NotFound
from ....settings import SloSettings
from ....slos.slo_report import SloStatus
from ....sources.metering import measure_cost
from ...api.responses import encode_json
from ...context import app_services
from ...forms.job_query import asked_time
from ...views.charts.chart_table import build_chart_table
from ...views.slos.slo_charts import SLO_CHARTS, build_slo_data
from ...views.slos.slo_rows import MAX_QUEUES, build_row, build_rows, covered_queues
from .. import layout
from ..moments.sample_data import sample_end_after

bp = Blueprint("slos", __name__, url_prefix="/slos")

LIST = "slos/_list.html"
BURN_COLUMNS = ("1h", "6h", "3d")


@bp.get("")
def index() -> str:
    """The page of all objectives."""
    context = _list_context()
    longest_s = max((slo.window_s for slo in app_services().slos.slos), default=0.0)
    return layout.render_page("slos/index.html", context | {"sample_end_s": _sample_end(longest_s)})


@bp.get("/_list")
def fragment() -> Response:
    """The part of the page that polls."""
    return layout.render_polled(LIST, _list_context())


def _list_context() -> dict[str, Any]:
    services = app_services()
    context: dict[str, Any] = {"rows": None, "problem": None, "burn_columns": BURN_COLUMNS}
    with measure_cost() as meter:
        try:
            statuses = services.slos.list_statuses()
            context["rows"] = build_rows(statuses, services.sources.titles, services.store.now_s())
        except (BackendUnavailable, Forbidden) as exc:
            context["problem"] = exc
    return context | {
        "is_recorded": services.settings.history_max_bytes > 0,
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
    }


@bp.get("/<segment:slo_id>")
def show(slo_id: str) -> str:
    """One objective. 404 if the settings have none with this id."""
    services = app_services()
    _check(slo_id)
    variables: dict[str, Any] = {"row": None, "problem": None, "table": None, "sample_end_s": None}
    with measure_cost() as meter:
        try:
            status = _find(slo_id)
            data = build_slo_data(status, asked_time("from"), asked_time("to"))
            variables["row"] = build_row(status, services.sources.titles, services.store.now_s())
            variables["table"] = build_chart_table(SLO_CHARTS, data)
            variables["sample_end_s"] = _sample_end(status.slo.window_s)
        except (BackendUnavailable, Forbidden) as exc:
            variables["problem"] = exc
    slo = _check(slo_id)
    current = services.snapshots.current()
    queues = covered_queues(slo, current.snapshot.queues if current.snapshot else ())
    variables |= {"slo": slo, "charts": SLO_CHARTS, "queues": queues[:MAX_QUEUES], "more": len(queues[MAX_QUEUES:])}
    variables |= {"titles": services.sources.titles, "data_url": url_for(".data", slo_id=slo_id)}
    variables |= {"is_part": asked_time("from") is not None or asked_time("to") is not None}
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return render_template("slos/show.html", **layout.page_context(current, cost), **variables)


@bp.get("/<segment:slo_id>/_data")
def data(slo_id: str) -> Response:
    """What its charts draw, as JSON; with `since`, only of the slots from that second on."""
    _check(slo_id)
    found = build_slo_data(_find(slo_id), asked_time("from"), asked_time("to"))
    response = Response(encode_json(found.since(asked_time("since"))), mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _sample_end(window_s: float) -> int | None:
    """When the sample data ends that is counted in a window; None without any. Cost: as `sample_end_after`."""
    return sample_end_after(app_services().store.now_s() - window_s) if window_s else None


def _check(slo_id: str) -> SloSettings:
    found = next((slo for slo in app_services().slos.slos if slo.id == slo_id), None)
    if found is None:
        raise NotFound(f"There is no SLO {slo_id[:64]!r}.", hint="[[slos]] in the settings defines them.")
    return found


def _find(slo_id: str) -> SloStatus:
    return next(status for status in app_services().slos.list_statuses() if status.slo.id == slo_id)
