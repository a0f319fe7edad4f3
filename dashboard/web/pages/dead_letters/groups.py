"""Dead letters by what killed them: the list of error groups, and one group with its jobs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, render_template, request

from ....auth import Role
from ....dead_letters.annotations import NOTHING_KNOWN
from ....dead_letters.fingerprint import is_fingerprint
from ....dead_letters.groups import SLOT_S, SLOTS
from ....dead_letters.service import GroupList
from ....errors import NotFound
from ....sources.source import metered
from ... import fragments
from ...access.security import may
from ...context import deck
from ...views.dead_letter_table import GroupQuery, GroupRow, member_page, offers, page_number, row_of, rows_of, table
from ...views.flash import ActionFlash
from .. import layout
from .samples import kept

bp = Blueprint("dead", __name__, url_prefix="/dead")

GROUPS, GROUP = "dead/_groups.html", "dead/_group.html"
# What the address may tell of a form that was sent; nothing else of it is shown.
SAID = {
    "acknowledge": "Acknowledged. The mark goes when the error comes back.",
    "unacknowledge": "No longer acknowledged.",
    "ignore": "Ignored. It is listed under Ignored or resolved until then.",
    "notice": "No longer ignored.",
    "resolve": "Resolved. It comes back with the next job that dies of it.",
    "reopen": "Open again.",
    "note": "Owner and note are kept.",
}
MAX_CHOICES = 200


@bp.get("")
def index() -> str:
    """The list of groups, worst first."""
    context = _list()
    return render_template("dead/index.html", **layout.shell(deck().reading(), context["price"]) | context)


@bp.get("/_groups")
def groups_fragment() -> Response:
    """The part of it that polls."""
    return _polled(GROUPS, _list())


@bp.get("/<segment:fingerprint>")
def show(fingerprint: str) -> str:
    """One group. 404 for one that is neither there nor remembered."""
    context = _one(fingerprint)
    said = SAID.get(request.args.get("said", ""))
    return render_template("dead/show.html", **layout.shell(deck().reading(), context["price"]) | context, said=said)


@bp.get("/<segment:fingerprint>/_group")
def group_fragment(fingerprint: str) -> Response:
    """The part of it that polls."""
    return _polled(GROUP, _one(fingerprint))


def _polled(template: str, context: dict[str, Any]) -> Response:
    response = fragments.live(template, context)
    response.headers[layout.PRICE] = context["price"]
    return response


def _list() -> dict[str, Any]:
    board = deck().dead()
    wanted = GroupQuery.of(request.args)
    rows = rows_of(board, deck().now_s())
    spots = [spot for row in rows for spot in row.group.spots]
    return _common(board) | {
        "wanted": wanted,
        "table": table(rows, wanted),
        "libraries": sorted({spot.ref.backend for spot in spots}),
        "source_names": sorted({spot.ref.source for spot in spots}),
        "queue_names": sorted({spot.queue for spot in spots if spot.queue.isprintable()})[:MAX_CHOICES],
    }


def _one(fingerprint: str) -> dict[str, Any]:
    """The variables of one group's page. Raises NotFound, and what Book.get raises."""
    if not is_fingerprint(fingerprint):
        raise NotFound("There is no such error group.")
    board = deck().dead()
    group = board.reading.find(fingerprint)
    remark = board.remarks.of(fingerprint)
    if group is None:
        remark = deck().triage.book.get(fingerprint)
        if remark == NOTHING_KNOWN:
            raise NotFound(
                "No dead letter belongs to this error group (any more).",
                hint="Its jobs were retried or deleted, or they are further back than the window that is read.",
            )
    with metered() as meter:
        samples = kept.of(deck(), group) if group else ()
    row: GroupRow | None = row_of(group, board, deck().now_s()) if group else None
    common = _common(board)
    if meter.commands:
        samples_price = layout.price(meter.commands, meter.round_trips, meter.seconds * 1000)
        common["price"] = f"samples: {samples_price}; groups: {common['price']}"
    offered = offers(group, deck().backend, deck().reading().snapshot) if group and may(Role.OPERATOR) else {}
    return common | {
        "samples": samples,
        "members": member_page(group, page_number(request.args.get("page", ""))) if group else None,
        "offered": offered,
        "did": ActionFlash.read(request.args),
        "fingerprint": fingerprint,
        "row": row,
        "remark": remark,
        "marks_known": row.marks if row else remark.marks(None, deck().now_s()),
    }


def _common(board: GroupList) -> dict[str, Any]:
    snapshot = deck().reading().snapshot
    cost = board.cost
    titles = deck().backend_titles
    return {
        "board": board,
        "reading": board.reading,
        "slots": (SLOTS, SLOT_S),
        "now": deck().now_s(),
        "titles": titles,
        "snapshot": snapshot,
        "down": [source for source in snapshot.sources if not source.reachable] if snapshot else [],
        "problems": [
            (source, titles.get(name, name), queue, why) for source, name, queue, why in board.reading.problems[:5]
        ],
        "price": layout.price(cost.commands, cost.round_trips, cost.seconds * 1000) + ", shared by all viewers",
    }
