"""Dead letters by error: the list of error groups, and one group with its jobs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, render_template, request

from ....auth import Role
from ....dead_letters.annotations import NOTHING_KNOWN
from ....dead_letters.fingerprint import is_fingerprint
from ....dead_letters.groups import SLOT_S, SLOTS
from ....dead_letters.service import GroupList
from ....errors import NotFound
from ....sources.metering import measure_cost
from ... import fragments
from ...access.security import has_role
from ...context import app_context, app_services
from ...views.dead_letter_table import (
    GroupQuery,
    GroupRow,
    build_table,
    count_offered,
    member_page,
    page_number,
    row_of,
    rows_of,
)
from ...views.flash import ActionFlash
from .. import layout

bp = Blueprint("dead", __name__, url_prefix="/dead")

GROUPS, GROUP = "dead_letters/_groups.html", "dead_letters/_group.html"
# The results that the URL can name; nothing else of it is shown.
CONFIRMATIONS = {
    "acknowledge": "Group acknowledged. The status is cleared if the error recurs.",
    "unacknowledge": "Group unacknowledged.",
    "ignore": "Group ignored. It is now listed under Ignored or resolved.",
    "notice": "Group no longer ignored.",
    "resolve": "Group resolved. It reopens with the next job that fails with this error.",
    "reopen": "Group reopened.",
    "note": "Owner and note saved.",
}
MAX_CHOICES = 200


@bp.get("")
def index() -> str:
    """The list of groups, worst first."""
    context = _list()
    return render_template(
        "dead_letters/index.html", **layout.page_context(app_services().snapshots.current(), context["price"]) | context
    )


@bp.get("/_groups")
def groups_fragment() -> Response:
    """The polled part of the list."""
    return _polled(GROUPS, _list())


@bp.get("/<segment:fingerprint>")
def show(fingerprint: str) -> str:
    """One group. 404 for one that has neither jobs nor a stored annotation."""
    context = _one(fingerprint)
    confirmation = CONFIRMATIONS.get(request.args.get("said", ""))
    return render_template(
        "dead_letters/show.html",
        **layout.page_context(app_services().snapshots.current(), context["price"]) | context,
        confirmation=confirmation,
    )


@bp.get("/<segment:fingerprint>/_group")
def group_fragment(fingerprint: str) -> Response:
    """The polled part of the page."""
    return _polled(GROUP, _one(fingerprint))


def _polled(template: str, context: dict[str, Any]) -> Response:
    response = fragments.render_live(template, context)
    response.headers[layout.PRICE] = context["price"]
    return response


def _list() -> dict[str, Any]:
    group_list = app_services().dead_letter_service.current_groups()
    wanted = GroupQuery.of(request.args)
    rows = rows_of(group_list, app_services().sources.now_s())
    spots = [spot for row in rows for spot in row.group.spots]
    return _common(group_list) | {
        "wanted": wanted,
        "table": build_table(rows, wanted),
        "libraries": sorted({spot.ref.backend for spot in spots}),
        "source_names": sorted({spot.ref.source for spot in spots}),
        "queue_names": sorted({spot.queue for spot in spots if spot.queue.isprintable()})[:MAX_CHOICES],
    }


def _one(fingerprint: str) -> dict[str, Any]:
    """The variables of one group's page. Raises NotFound, and what AnnotationStore.read_annotation raises."""
    if not is_fingerprint(fingerprint):
        raise NotFound("This error group does not exist.")
    group_list = app_services().dead_letter_service.current_groups()
    group = group_list.grouped.find(fingerprint)
    annotation = group_list.annotations.of(fingerprint)
    if group is None:
        annotation = app_services().dead_letter_service.book.read_annotation(fingerprint)
        if annotation == NOTHING_KNOWN:
            raise NotFound(
                "This error group has no jobs, or no longer exists.",
                hint="Its jobs were retried or deleted, or are older than the dead letters that are read.",
            )
    with measure_cost() as meter:
        samples = app_context().caches.error_samples(group) if group else ()
    row: GroupRow | None = row_of(group, group_list, app_services().sources.now_s()) if group else None
    common = _common(group_list)
    if meter.commands:
        samples_price = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
        common["price"] = f"samples: {samples_price}; groups: {common['price']}"
    offered = (
        count_offered(group, app_services().sources.backend, app_services().snapshots.current().snapshot)
        if group and has_role(Role.OPERATOR)
        else {}
    )
    return common | {
        "samples": samples,
        "members": member_page(group, page_number(request.args.get("page", ""))) if group else None,
        "offered": offered,
        "flash": ActionFlash.read(request.args),
        "fingerprint": fingerprint,
        "row": row,
        "annotation": annotation,
        "marks_known": row.marks if row else annotation.marks(None, app_services().sources.now_s()),
    }


def _common(group_list: GroupList) -> dict[str, Any]:
    snapshot = app_services().snapshots.current().snapshot
    cost = group_list.cost
    titles = app_services().sources.titles
    return {
        "group_list": group_list,
        "reading": group_list.grouped,
        "slots": (SLOTS, SLOT_S),
        "now": app_services().sources.now_s(),
        "titles": titles,
        "snapshot": snapshot,
        "down": [source for source in snapshot.sources if not source.reachable] if snapshot else [],
        "problems": [
            (source, titles.get(name, name), queue, why) for source, name, queue, why in group_list.grouped.problems[:5]
        ],
        "price": layout.format_cost(cost.commands, cost.round_trips, cost.seconds * 1000) + ", shared by all viewers",
    }
