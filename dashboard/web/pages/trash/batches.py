"""The trash: what was deleted within 24 hours, the jobs of one delete, and restoring them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....actions.trash import KEEP_S, MAX_BATCHES, SPARE_BATCHES, check_undo_batch
from ....actions.trash_listing import TrashedBatch, TrashFilter, TrashPage
from ....errors import Conflict, NotFound, Unsupported
from ....sources.metering import measure_cost
from ...context import app_services
from ...forms.job_query import asked_number
from ...forms.job_tokens import id_token, read_job_token
from ...forms.request_input import form_fields, form_flag
from ...urls import quote_segment, read_segment
from ...views.flash import ActionFlash
from .. import layout
from ..bulk.start import not_restored
from ..job_actions import parse_reason, redirect_to
from .restore import RestoreReport, restore_batches, restore_matching, restore_selected

bp = Blueprint("trash", __name__, url_prefix="/trash")
edit_bp = Blueprint("trash_edit", __name__, url_prefix="/trash")

PER_PAGE = 50
FILTERS = ("source", "backend", "queue", "who", "bulk_id")
# A cursor of HSCAN is a number of 64 bits.
_MOST = 2**64 - 1


@bp.get("")
def index() -> str:
    """What was deleted within 24 hours, newest first."""
    wanted = TrashFilter(**{name: read_segment(text) for name in FILTERS if (text := request.args.get(name))})
    with measure_cost() as meter:
        page = app_services().trash_listing.list_page(wanted, cursor=request.args.get("cursor") or None, limit=PER_PAGE)
        rest = _read_rest(wanted)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    filters = {name: value for name in FILTERS if (value := getattr(wanted, name)) is not None}
    return render_template(
        "trash/index.html",
        **layout.page_context(app_services().snapshots.current(), cost),
        page=page,
        wanted=wanted,
        filters=filters,
        segments={name: quote_segment(value) for name, value in filters.items()},
        cursor=request.args.get("cursor"),
        rest=rest,
        after=request.args.get("after") or None,
        left=asked_number("left", 0, MAX_BATCHES + SPARE_BATCHES),
        operations=asked_number("operations", 0, MAX_BATCHES + SPARE_BATCHES),
        keep_s=KEEP_S,
        titles=app_services().sources.titles,
        flash=ActionFlash.read(request.args),
    )


@bp.get("/<segment:batch>")
def show(batch: str) -> str:
    """The jobs of one delete. 404 when it expired or everything in it was restored."""
    cursor = parse_job_cursor()
    with measure_cost() as meter:
        found = find_batch(batch)
        jobs, following = app_services().trash_listing.list_jobs(batch, cursor)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return render_template(
        "trash/show.html",
        **layout.page_context(app_services().snapshots.current(), cost),
        batch=found,
        jobs=jobs,
        cursor=cursor,
        following=following,
        id_token=id_token,
        titles=app_services().sources.titles,
        flash=ActionFlash.read(request.args),
    )


@edit_bp.post("/restore")
@form_fields(*FILTERS, "after", "reason", many=("batch",))
def restore() -> ResponseReturnValue:
    """Restore the given batches; without any, all that match the filter, `after` a cursor.

    What cannot be restored in time is left: the page says how much, and continues.
    """
    undo_batches = request.form.getlist("batch")[:MAX_BATCHES]
    if undo_batches:
        return _answer(restore_batches(undo_batches, parse_reason()))
    filters = {name: read_segment(text) for name in FILTERS if (text := request.form.get(name))}
    report = restore_matching(TrashFilter(**filters), request.form.get("after") or None, parse_reason())
    return _answer(report, filters=filters)


@edit_bp.post("/<segment:batch>/restore")
@form_fields("reason", "selected", many=("pick",))
def restore_jobs(batch: str) -> ResponseReturnValue:
    """Restore one batch, or with `selected` only the selected jobs of it."""
    check_undo_batch(batch)
    if not form_flag("selected"):
        if request.form.getlist("pick"):
            raise Unsupported("pick: only valid with selected.")
        return _answer(restore_batches([batch], parse_reason()))
    ids = [read_job_token(token).id for token in request.form.getlist("pick")]
    if not ids:
        raise Conflict("No jobs selected.", hint="Go back and select at least one job.")
    report = restore_selected(batch, ids, parse_reason())
    left = app_services().action_service.trash.count_left([batch])
    return _answer(report, batch if left else None)


def find_batch(batch: str) -> TrashedBatch:
    """The batch of that name. Raises NotFound."""
    found = app_services().trash_listing.read_batch(check_undo_batch(batch))
    if found is None:
        raise NotFound(
            "This is no longer in the trash.",
            hint="Its jobs were restored, or 24 hours have passed. The audit log shows which.",
        )
    return found


def parse_job_cursor() -> int:
    """The cursor of the URL; 0 without one. Raises Unsupported for an invalid one."""
    text = request.args.get("cursor") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= _MOST):
        raise Unsupported("cursor: expected the next_cursor of an earlier page.")
    return int(text)


def _read_rest(wanted: TrashFilter) -> TrashPage | None:
    """What a restore that was stopped in time has left, by the cursor of the URL; None without one."""
    after = request.args.get("after")
    return app_services().trash_listing.list_page(wanted, cursor=after, limit=1) if after else None


def _answer(
    report: RestoreReport, batch: str | None = None, filters: Mapping[str, str] = MappingProxyType({})
) -> ResponseReturnValue:
    """A 303 to the page that shows what was restored and what is left. Raises Conflict when nothing was."""
    if report.not_begun:
        query: dict[str, Any] = {name: quote_segment(text) for name, text in filters.items()}
        query |= report.flash.query if report.results else {}
        query |= {"left": len(report.not_begun)} if report.cursor is None else {"after": report.cursor}
        return redirect_to(url_for("trash.index", **query, operations=len(report.operations) or None))
    if report.operations and not report.results:
        if len(report.operations) == 1:
            return redirect(url_for("bulk.show", work_id=report.operations[0].id), code=303)
        return redirect(url_for("bulk.index"), code=303)
    if not report.operations and (refused := not_restored(report.results)) is not None:
        raise refused
    query = report.flash.query
    if report.operations:
        query["operations"] = len(report.operations)
    url = url_for("trash.index", **query) if batch is None else url_for("trash.show", batch=batch, **query)
    return redirect_to(url)
