"""The trash in the JSON API: what was deleted within 24 hours, the jobs of one delete, and restoring them."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, request
from msgspec import UNSET, Meta

from ...actions.trash import check_undo_batch
from ...actions.trash_listing import TrashedBatch, TrashFilter
from ...backends.actions import MAX_BATCH
from ...clock import instant, iso
from ...model import State
from ..context import app_services
from ..forms.job_query import asked_number
from ..forms.request_input import json_body
from ..pages.bulk.start import not_restored
from ..pages.trash.batches import FILTERS, PER_PAGE, find_batch, parse_job_cursor
from ..pages.trash.restore import restore_batches, restore_matching, restore_selected
from .action_bodies import ReasonBody, Text
from .action_json import BulkOperationJson, NotRestoredJson, PutBackJson, json_restored, json_started
from .actions import checked_reason_of
from .responses import JsonObject, Time, json_error, json_response

bp = Blueprint("api_trash", __name__, url_prefix="/api/v1")
edit_bp = Blueprint("api_trash_edit", __name__, url_prefix="/api/v1")

MAX_PER_PAGE = 200


class TrashedBatchJson(JsonObject, frozen=True, kw_only=True):
    """One delete. `left` of its jobs are still in the trash; it expires at `until`.

    `schedule` is the id of a removed schedule, null for deleted jobs; `bulk_id` the bulk operation that deleted them.
    """

    batch: str
    source: str
    backend: str
    queue: str | None
    state: State | None
    schedule: str | None
    left: int
    size_bytes: int | None
    who: str
    deleted_at: Time | None
    until: Time | None
    bulk_id: str | None


class TrashJson(JsonObject, frozen=True, kw_only=True):
    """A page of the trash, newest first. `matching` deletes with `matching_jobs` jobs match the filter; `total` deletes
    with `total_jobs` jobs are in the trash, and use `used_bytes` of `limit_bytes`. `next_cursor` is null on the last
    page."""

    batches: list[TrashedBatchJson]
    matching: int
    matching_jobs: int
    total: int
    total_jobs: int
    used_bytes: int
    limit_bytes: int
    next_cursor: str | None


class TrashedJobJson(JsonObject, frozen=True, kw_only=True):
    """One deleted job or removed schedule. `name` is null where it is not recorded."""

    id: str
    name: str | None
    size_bytes: int


class TrashedJobsJson(JsonObject, frozen=True, kw_only=True):
    """One delete, and a page of its jobs. `next_cursor` is null on the last page."""

    batch: TrashedBatchJson
    jobs: list[TrashedJobJson]
    next_cursor: str | None


class RestoredBatchesJson(JsonObject, frozen=True, kw_only=True):
    """The result of restoring several deletes: `restored` jobs now, and the rest of the larger ones by `bulk_ids`.

    `refused` lists the first 100 jobs that were not restored; `changed` of them had been restored before. `left`
    deletes with `left_jobs` jobs were not begun within the time of a request: send `next_cursor` as `cursor` to
    continue; null when nothing is left.
    """

    restored: int
    changed: int
    refused: list[NotRestoredJson]
    bulk_ids: list[str]
    left: int
    left_jobs: int
    next_cursor: str | None


class RestoreAllBody(ReasonBody, frozen=True, kw_only=True):
    """Restores what matches; without any of the fields, everything. `cursor` continues an earlier request."""

    source: Text | None = None
    backend: Text | None = None
    queue: Text | None = None
    who: Text | None = None
    bulk_id: Text | None = None
    cursor: Text | None = None


class RestoreBody(ReasonBody, frozen=True, kw_only=True):
    """`ids` restores only these jobs. `reason` is recorded in the audit log."""

    ids: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_BATCH)] | None = None


@bp.get("/trash", endpoint="trash")
@json_response
def list_trash() -> TrashJson:
    """List what was deleted within 24 hours, newest first.

    `queue` and `who` are whole names. For the next page, send `next_cursor` as `cursor`.
    """
    wanted = TrashFilter(**{name: text for name in FILTERS if (text := request.args.get(name))})
    limit = asked_number("limit", PER_PAGE, MAX_PER_PAGE)
    page = app_services().trash_listing.list_page(wanted, cursor=request.args.get("cursor") or None, limit=limit)
    return TrashJson(
        batches=[_json_batch(batch) for batch in page.batches],
        matching=page.matching,
        matching_jobs=page.matching_jobs,
        total=page.total,
        total_jobs=page.total_jobs,
        used_bytes=page.used_bytes,
        limit_bytes=page.limit_bytes,
        next_cursor=page.next_cursor,
    )


@bp.get("/trash/<batch>", endpoint="batch")
@json_response
def show_batch(batch: str) -> TrashedJobsJson:
    """List the jobs of one delete, about 50 per page, in no particular order.

    For the next page, send `next_cursor` as `cursor`. A job can be on two pages if others are restored in between.
    """
    cursor = parse_job_cursor()
    found = find_batch(batch)
    jobs, following = app_services().trash_listing.list_jobs(batch, cursor)
    return TrashedJobsJson(
        batch=_json_batch(found),
        jobs=[TrashedJobJson(id=job.id, name=job.name, size_bytes=job.size_bytes) for job in jobs],
        next_cursor=str(following) if following else None,
    )


@edit_bp.post("/trash/restore", endpoint="restore_all")
@json_body(RestoreAllBody)
@json_response
def restore_all(body: RestoreAllBody) -> RestoredBatchesJson:
    """Restore all deletes that match, newest first.

    Begins no further delete after about two seconds: while `next_cursor` is not null, send it as `cursor`. Returns 404
    when nothing matches.
    """
    wanted = TrashFilter(source=body.source, backend=body.backend, queue=body.queue, who=body.who, bulk_id=body.bulk_id)
    report = restore_matching(wanted, body.cursor, checked_reason_of(body.reason))
    rest = report.cursor and app_services().trash_listing.list_page(wanted, cursor=report.cursor, limit=1)
    put_back = json_restored(report.results, UNSET)
    return RestoredBatchesJson(
        restored=put_back.restored,
        changed=put_back.changed,
        refused=put_back.refused,
        bulk_ids=[operation.id for operation in report.operations],
        left=rest.following if rest else 0,
        left_jobs=rest.following_jobs if rest else 0,
        next_cursor=report.cursor if rest and rest.following else None,
    )


@edit_bp.post("/trash/<batch>/restore", endpoint="restore")
@json_body(RestoreBody)
@json_response
def restore(body: RestoreBody, batch: str) -> tuple[BulkOperationJson | PutBackJson, int]:
    """Restore one delete, or some jobs of it.

    Few jobs are restored immediately, many as a bulk operation (202). If a bulk operation deleted nothing else, it is
    undone.

    `refused` lists the first 100 jobs that were not restored, each with its outcome and the reason. Returns 409 if no
    job was restored.
    """
    check_undo_batch(batch)
    reason = checked_reason_of(body.reason)
    report = restore_batches([batch], reason) if body.ids is None else restore_selected(batch, body.ids, reason)
    if report.operations:
        return json_started(report.operations[0]), 202
    exc = not_restored(report.results)
    return json_restored(report.results, json_error(exc) if exc else UNSET), 409 if exc else 200


def _json_batch(batch: TrashedBatch) -> TrashedBatchJson:
    about = batch.about
    return TrashedBatchJson(
        batch=batch.name,
        source=about.ref.source,
        backend=about.ref.backend,
        queue=about.ref.name or None,
        state=about.state,
        schedule=about.schedule,
        left=batch.left,
        size_bytes=batch.size_bytes,
        who=about.who,
        deleted_at=iso(instant(about.at)),
        until=iso(instant(batch.until)),
        bulk_id=batch.bulk_id,
    )
