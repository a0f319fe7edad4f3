"""Dead letters by error: the list of error groups, and one group with its jobs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from ....auth import Role
from ....dead_letters.annotations import FIELDS, NOTHING_KNOWN, TEXTS
from ....dead_letters.differences import compare_jobs
from ....dead_letters.fingerprint import is_fingerprint
from ....dead_letters.groups import ErrorGroup
from ....dead_letters.index import ROWS_PER_LIST
from ....dead_letters.service import GroupList
from ....errors import NotFound
from ....sources.metering import measure_cost
from ...access.security import has_role
from ...api.responses import encode_json
from ...context import app_context, app_services
from ...views.flash import ActionFlash
from ...views.group_table import (
    GroupQuery,
    GroupRow,
    build_table,
    count_offered,
    member_page,
    page_number,
    row_of,
    rows_of,
    why_none_offered,
)
from .. import layout
from .group_chart import chart_context, chart_data, has_range

bp = Blueprint("dead", __name__, url_prefix="/dead")

GROUPS, GROUP = "dead_letters/_groups.html", "dead_letters/_group.html"
# The results that the URL can name; nothing else of it is shown.
CONFIRMATIONS = {
    "acknowledge": "Group acknowledged. The status is cleared if the group regresses.",
    "unacknowledge": "Group unacknowledged.",
    "ignore": "Group ignored. It is now listed under Ignored or resolved.",
    "notice": "Group no longer ignored.",
    "resolve": "Group resolved. It is marked as regressed if another job fails with this error.",
    "reopen": "Group reopened.",
    "note": "Owner and note saved.",
}
MAX_CHOICES = 200
MAX_UNREAD = 5


@bp.get("")
def index() -> str:
    """The list of groups, worst first."""
    return layout.render_page("dead_letters/index.html", _list())


@bp.get("/_groups")
def groups_fragment() -> Response:
    """The polled part of the list."""
    return layout.render_polled(GROUPS, _list())


@bp.get("/<segment:fingerprint>")
def show(fingerprint: str) -> str:
    """One group. 404 for one that has neither jobs nor a stored annotation."""
    confirmation = CONFIRMATIONS.get(request.args.get("said", ""))
    context = _one(fingerprint) | {"confirmation": confirmation}
    is_final = not context["grouped"].reading
    # Without a range in the URL, the chart begins with the first death.
    if (row := context["row"]) is not None and (is_final or has_range()):
        context |= chart_context(row.group, is_final=is_final)
    return layout.render_page("dead_letters/show.html", context)


@bp.get("/<segment:fingerprint>/_group")
def group_fragment(fingerprint: str) -> Response:
    """The polled part of the page."""
    return layout.render_polled(GROUP, _one(fingerprint))


@bp.get("/<segment:fingerprint>/_deaths")
def death_chart(fingerprint: str) -> str:
    """The chart of a group, for a page that was opened before its jobs were read. 404 for a group without jobs."""
    group, is_final = _find_group(fingerprint)
    context = chart_context(group, is_final=is_final) | {"fingerprint": fingerprint, "rows_per_list": ROWS_PER_LIST}
    return layout.render_page("dead_letters/_death_chart.html", context | {"cost": ""})


@bp.get("/<segment:fingerprint>/_deaths_data")
def death_data(fingerprint: str) -> Response:
    """What the chart draws, as JSON. 404 for a group without jobs."""
    group, is_final = _find_group(fingerprint)
    response = Response(encode_json(chart_data(group, is_final=is_final)), mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _find_group(fingerprint: str) -> tuple[ErrorGroup, bool]:
    """A group that has jobs, and whether all its jobs were read. Raises NotFound."""
    grouped = app_services().dead_letter_service.current_groups().grouped
    group = grouped.find(fingerprint)
    if group is None:
        raise _no_such_group(reading=grouped.reading)
    return group, not grouped.reading


def _list() -> dict[str, Any]:
    group_list = app_services().dead_letter_service.current_groups()
    query = GroupQuery.of(request.args)
    rows = rows_of(group_list, app_services().sources.now_s(), app_services().marks.recent_marks())
    queues = [queue for row in rows for queue in row.group.queues]
    return _common(group_list) | {
        "group_query": query,
        "table": build_table(rows, query),
        "libraries": sorted({queue.ref.backend for queue in queues}),
        "source_names": sorted({queue.ref.source for queue in queues}),
        "queue_names": sorted({queue.name for queue in queues if queue.name.isprintable()})[:MAX_CHOICES],
    }


def _one(fingerprint: str) -> dict[str, Any]:
    """The variables of one group's page. Raises NotFound, and what AnnotationStore.read_annotation raises."""
    if not is_fingerprint(fingerprint):
        raise NotFound("This error group does not exist.")
    group_list = app_services().dead_letter_service.current_groups()
    group = group_list.grouped.find(fingerprint)
    annotation = group_list.annotations.of(fingerprint)
    if group is None:
        annotation = app_services().dead_letter_service.read_annotation(fingerprint)
        if annotation == NOTHING_KNOWN:
            raise _no_such_group(reading=group_list.grouped.reading)
    with measure_cost() as meter:
        samples = app_context().caches.error_samples(group) if group else ()
    now, known_marks = app_services().sources.now_s(), app_services().marks.recent_marks()
    row: GroupRow | None = row_of(group, group_list, now, known_marks) if group else None
    common = _common(group_list)
    if meter.commands:
        samples_cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
        common["cost"] = f"samples: {samples_cost}; groups: {common['cost']}"
    may_act, backend_of = group and has_role(Role.OPERATOR), app_services().sources.backend
    offered = count_offered(group, backend_of, common["snapshot"]) if group and may_act else {}
    return common | {
        "samples": samples,
        "member_page": member_page(group, page_number(request.args.get("page", ""))) if group else None,
        "offered": offered,
        "why_none": why_none_offered(group, backend_of, common["snapshot"])
        if group and may_act and not offered
        else (),
        "flash": ActionFlash.read(request.args),
        "fingerprint": fingerprint,
        "row": row,
        "comparison": compare_jobs(group.members) if group else None,
        "annotation": annotation,
        "may_set_status": app_services().dead_letter_service.may_annotate(fingerprint, FIELDS),
        "may_write": app_services().dead_letter_service.may_annotate(fingerprint, TEXTS),
        "statuses": row.statuses if row else annotation.statuses(None, now),
    }


def _no_such_group(*, reading: bool) -> NotFound:
    if reading:
        return NotFound(
            "No job of this error group has been read yet.",
            hint="Dead letters are still being read. Reload in a few seconds.",
        )
    return NotFound(
        "This error group has no jobs, or no longer exists.",
        hint=f"Its jobs were retried or deleted, or are older than the newest {ROWS_PER_LIST:,} in their list, "
        "which is as far as Queuedeck reads.",
    )


def _common(group_list: GroupList) -> dict[str, Any]:
    snapshot = app_services().snapshots.current().snapshot
    cost = group_list.cost
    titles = app_services().sources.titles
    down = [source for source in snapshot.sources if not source.reachable] if snapshot else []
    named = {source.name for source in down}  # said once, not for each of its lists
    unread_lists = [unread for unread in group_list.grouped.unread_lists if unread.ref.source not in named]
    return {
        "group_list": group_list,
        "grouped": group_list.grouped,
        "rows_per_list": ROWS_PER_LIST,
        "titles": titles,
        "snapshot": snapshot,
        "down": down,
        "problems": [
            (unread.ref.source, titles.get(unread.ref.backend, unread.ref.backend), unread.ref.name, unread.why)
            for unread in unread_lists[:MAX_UNREAD]
        ],
        "more_unread": max(0, len(unread_lists) - MAX_UNREAD),
        "cost": layout.format_cost(cost.commands, cost.round_trips, cost.seconds * 1000) + ", shared by all viewers",
    }
