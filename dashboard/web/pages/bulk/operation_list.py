"""The list of bulk operations: those that run first, by state and user, a page at a time."""

from __future__ import annotations

from typing import Any

from flask import Response, render_template, request

from ....actions.bulk.operation import BulkPhase
from ....actions.bulk_listing import FINISHED, UNFINISHED, BulkFilter, BulkPage, list_page
from ....errors import Unsupported
from ....sources.metering import measure_cost
from ...context import app_services
from ...forms.job_query import MAX_PAGE, asked_number
from ...views.flash import BULK_PAST
from .. import layout
from . import operations as bulk

bp = bulk.bp

LIST = "bulk/_list.html"
PER_PAGE, MAX_PER_PAGE = 50, 200
STATES = (UNFINISHED, FINISHED, *(phase.value for phase in BulkPhase))
MAX_NAME = 300
# The list moves only while something runs, and costs more than most refreshes.
INTERVAL_S = 3


@bp.get("")
def index() -> str:
    """The page. Cost: 2 round trips, 2 more if operations deleted jobs."""
    context = _context()
    return render_template(
        "bulk/index.html", **layout.page_context(app_services().snapshots.current(), context["cost"]) | context
    )


@bp.get("/_list")
def list_fragment() -> Response:
    """The part of the page that polls while an operation is unfinished."""
    return layout.render_polled(LIST, _context())


def read_operations(*, unfinished_first: bool = False) -> BulkPage:
    """The operations that the URL asks for: `state`, `who`, `page`, `per_page`. Raises Unsupported.

    Cost: see list_page.
    """
    return list_page(
        app_services().bulk_store,
        bulk_filter(),
        page=asked_number("page", 1, MAX_PAGE),
        per_page=asked_number("per_page", PER_PAGE, MAX_PER_PAGE),
        unfinished_first=unfinished_first,
    )


def bulk_filter() -> BulkFilter:
    """The filter of the URL; an empty parameter is none. Raises Unsupported for an unknown state."""
    state, who = request.args.get("state") or None, request.args.get("who") or None
    if state is not None and state not in STATES:
        raise Unsupported(f"state={state[:50]!r}: expected one of {', '.join(STATES)}.")
    return BulkFilter(state=state, who=who and who[:MAX_NAME])


def _context() -> dict[str, Any]:
    with measure_cost() as meter:
        found = read_operations(unfinished_first=True)
        deletes = {operation.id for operation in found.operations if operation.undoable}
        restorable_by_operation = app_services().trash_listing.count_left_by_operation(deletes)
    asked = {name: text for name in ("state", "who", "per_page") if (text := request.args.get(name))}
    return {
        "found": found,
        "wanted": bulk_filter(),
        "asked": asked,
        "page": asked_number("page", 1, MAX_PAGE),
        "per_page": asked_number("per_page", PER_PAGE, MAX_PER_PAGE),
        "states": STATES,
        "restorable_by_operation": restorable_by_operation,
        "titles": app_services().sources.titles,
        "past": BULK_PAST,
        "interval_s": INTERVAL_S,
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
    }
