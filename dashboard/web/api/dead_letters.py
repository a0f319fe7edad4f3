"""The dead letters of the JSON API: error groups with their figures, statuses and samples."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from ...clock import instant, iso
from ...dead_letters.groups import SAMPLES, SLOT_S, GroupMember
from ...errors import NotFound, Unsupported
from ..context import app_context
from ..forms.job_query import MAX_PAGE, MAX_PER_PAGE, asked_number
from ..views.dead_letter_table import PER_PAGE, GroupQuery, GroupRow, member_page, row_of, rows_of

bp = Blueprint("api_dead", __name__, url_prefix="/api/v1")


@bp.get("/dead")
def dead() -> Response:
    """List error groups, most jobs first.

    Filter by `source`, `backend`, `queue` and `q`. `group_by` can only be `error`.
    """
    by = request.args.get("group_by", "error")
    if by != "error":
        raise Unsupported(f"group_by={by[:20]!r}: expected error.")
    group_list = app_context().dead_letter_groups()
    grouped = group_list.grouped
    wanted = GroupQuery.of({**request.args, "library": request.args.get("backend", "")})
    return jsonify(
        groups=[_json_group(row) for row in rows_of(group_list, app_context().now_s()) if wanted.fits(row)],
        scanned=grouped.scanned,
        total=grouped.total,
        at_least=grouped.at_least,
        truncated=grouped.truncated,
        read_at=iso(instant(grouped.read_at)),
        marks_unknown=group_list.annotations.problem,
        problems=[
            {"source": source, "backend": name, "queue": queue, "message": why}
            for source, name, queue, why in grouped.problems
        ],
    )


@bp.get("/dead/<segment:fingerprint>")
def group(fingerprint: str) -> Response:
    """Retrieve an error group with a page of its jobs, newest first.

    Returns 404 if none of the jobs that were read belongs to it.
    """
    group_list = app_context().dead_letter_groups()
    found = group_list.grouped.find(fingerprint)
    if found is None:
        raise NotFound("This error group has no jobs, or no longer exists.")
    per_page = asked_number("per_page", PER_PAGE, MAX_PER_PAGE)
    page = member_page(found, asked_number("page", 1, MAX_PAGE), per_page)
    jobs = {"jobs": [_json_job(member) for member in page.jobs], "page": page.page, "per_page": per_page}
    return jsonify(_json_group(row_of(found, group_list, app_context().now_s())) | jobs)


def _json_group(row: GroupRow) -> dict[str, Any]:
    found, annotation = row.group, row.annotation
    return {
        "fingerprint": found.kind.id,
        "error_class": found.kind.error_class,
        "message": found.kind.message,
        "frames": list(found.kind.frames),
        "count": found.count,
        "first_seen": iso(instant(row.first_at)),
        "last_seen": iso(instant(found.last_at)),
        "trend": {"step_s": SLOT_S, "counts": list(found.trend)},
        "queues": list(dict.fromkeys(spot.queue for spot in found.spots)),
        "places": [
            {
                "source": spot.ref.source,
                "backend": spot.ref.backend,
                "queue": spot.queue,
                "found_in": spot.ref.name,
                "state": spot.state.value,
                "count": spot.count,
            }
            for spot in found.spots
        ],
        "sample_ids": [member.row.id for member in found.jobs[:SAMPLES]],
        "samples": [_json_job(member) for member in found.jobs[:SAMPLES]],
        "marks": list(row.marks),
        "owner": annotation.owner,
        "note": annotation.note,
        "acknowledged_by": annotation.ack_by if "acknowledged" in row.marks else None,
        "ignored_until": iso(instant(annotation.ignored_until)) if "ignored" in row.marks else None,
        "ignored_above": annotation.ignored_above if "ignored" in row.marks else None,
    }


def _json_job(member: GroupMember) -> dict[str, Any]:
    ref, row = member.ref, member.row
    return {
        "id": row.id,
        "source": ref.source,
        "backend": ref.backend,
        "found_in": ref.name,
        "queue": row.queue,
        "name": row.name,
        "died_at": iso(instant(row.at)),
        "attempts": row.attempts,
        "state": member.state.value,
        "came_from": row.origin,
    }
