"""Service level objectives in the JSON API."""

from __future__ import annotations

from flask import Blueprint

from ....clock import instant, iso
from ....slos.slo_report import BURN_WINDOWS, SloStatus
from ...context import app_services
from ...views.overview.overview_data import rounded
from ...views.slos.slo_rows import build_row
from ..responses import JsonObject, Time, json_response

bp = Blueprint("api_slos", __name__, url_prefix="/api/v1")


class BurnRateJson(JsonObject, frozen=True, kw_only=True):
    """How many times faster than allowed the error budget was used in the last `window_s` seconds. `used_up_in_s`:
    until nothing is left at this rate, 0 if nothing is; null if it lasts, or is unknown."""

    window_s: int
    jobs: float | None
    bad: float | None
    burn_rate: float | None
    used_up_in_s: float | None


class SloJson(JsonObject, frozen=True, kw_only=True):
    """An objective: of the jobs of its queues, `target_ratio` have to be good over `window_s`. Exactly one of
    `waited_within_s`, `ran_within_s` and `succeeded` says what a good job is.

    `state`: met, at risk, missed, unknown, or no figures. `reason`: why figures are null, or what they leave out.
    `budget_left_ratio`: below 0 once the target is missed. `counted_at`: until when jobs were counted. `counted_since`:
    the first jobs in the window.
    """

    id: str
    name: str
    source: str
    backend: str
    queues: tuple[str, ...]
    queues_not: tuple[str, ...]
    target_ratio: float
    waited_within_s: float | None
    ran_within_s: float | None
    succeeded: bool
    window_s: float
    state: str
    reason: str | None
    jobs: float | None
    good: float | None
    good_ratio: float | None
    budget_jobs: float | None
    budget_left_jobs: float | None
    budget_left_ratio: float | None
    burn_rates: list[BurnRateJson]
    queues_counted: int | None
    queues_unknown: int | None
    counted_since: Time | None
    counted_at: Time | None


class SloListJson(JsonObject, frozen=True, kw_only=True):
    """All objectives, in the order of the settings."""

    slos: list[SloJson]


@bp.get("/slos")
@json_response
def slos() -> SloListJson:
    """List service level objectives, with what is left of their error budgets and their burn rates.

    The checker that leads counts jobs once a minute. Fractions of jobs come from a limit within a bucket of the stored
    durations. At most 1 round trip, shared by all viewers for 5 s.
    """
    services = app_services()
    statuses, now_s = services.slos.list_statuses(), services.store.now_s()
    return SloListJson(slos=[_slo_json(status, now_s) for status in statuses])


def _slo_json(status: SloStatus, now_s: float) -> SloJson:
    slo, counts, report = status.slo, status.counts, status.report
    row = build_row(status, app_services().sources.titles, now_s)
    return SloJson(
        id=slo.id,
        name=slo.title,
        source=slo.source,
        backend=slo.backend,
        queues=slo.queues,
        queues_not=slo.queues_not,
        target_ratio=slo.target,
        waited_within_s=slo.waited_within_s,
        ran_within_s=slo.ran_within_s,
        succeeded=slo.succeeded,
        window_s=slo.window_s,
        state=row.state,
        reason=row.why or None,
        jobs=rounded(counts.total) if counts else None,
        good=rounded(counts.good) if counts else None,
        good_ratio=rounded(status.good_ratio, 6),
        budget_jobs=rounded(status.budget_jobs),
        budget_left_jobs=rounded(status.budget_left_jobs),
        budget_left_ratio=rounded(status.budget_left_ratio, 4),
        burn_rates=[_burn_rate(status, window, seconds) for window, seconds in BURN_WINDOWS.items()],
        queues_counted=report.counted_queues if report else None,
        queues_unknown=report.unknown_count if report else None,
        counted_since=iso(instant(report.since_s)) if report and report.since_s is not None else None,
        counted_at=iso(instant(report.at)) if report else None,
    )


def _burn_rate(status: SloStatus, window: str, seconds: int) -> BurnRateJson:
    counts = status.report.recent.get(window) if status.report is not None and not status.is_unknown else None
    return BurnRateJson(
        window_s=seconds,
        jobs=rounded(counts.total) if counts else None,
        bad=rounded(counts.bad) if counts else None,
        burn_rate=rounded(status.burn_rate(window), 4),
        used_up_in_s=rounded(status.used_up_in_s(window), 0),
    )
