"""Actions on the selected jobs of an error group: a plain form, answered with 303 to the page that shows the result."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue

from ....backends.actions import MAX_BATCH, ActionResult, JobRef, Outcome
from ....dead_letters.fingerprint import is_fingerprint
from ....errors import Conflict, NotFound, Unsupported
from ...context import app_context, app_services
from ...forms.job_tokens import Spot, read_member
from ...forms.request_input import form_fields
from ...views.dead_letter_table import ACTIONS
from ...views.flash import MAX_UNDO_BATCHES, ActionFlash
from ..job_actions import ACTION, parse_options, parse_reason, redirect_to, run_action, wanted_action

bp = Blueprint("dead_letter_actions", __name__, url_prefix="/dead")


@bp.post("/<segment:fingerprint>/act")
@form_fields(*ACTION, "page", many=("pick",))
def on_jobs(fingerprint: str) -> ResponseReturnValue:
    """Apply an action to jobs of an error group, list by list: they can be in lists of several queues and libraries."""
    if not is_fingerprint(fingerprint):
        raise NotFound("This error group does not exist.")
    action, wish, why = wanted_action(), parse_options(), parse_reason()
    if action not in ACTIONS:
        raise Unsupported("This action is not available for error groups.")
    places = _places(request.form.getlist("pick"))
    backend_of = app_services().sources.backend
    # Of all lists, before any job changes.
    refs = {spot: app_context().find_queue_stats(*spot[:3]).ref for spot in places}
    results: list[ActionResult] = []
    batches: list[str | None] = []
    for spot, job_refs in places.items():
        ref, state = refs[spot], spot[3]
        if action not in backend_of(ref.source, ref.backend).offered_actions(state, shared=ref.shared):
            results += [ActionResult(id=job_ref.id, outcome=Outcome.UNSUPPORTED) for job_ref in job_refs]
            continue
        done, batch = run_action(ref, state, action, job_refs, wish, why)
        results += done
        batches.append(batch)
    page = request.form.get("page", "")
    query = ActionFlash.of(action, results, *batches).query | (
        {"page": page} if page.isascii() and page.isdigit() and page != "1" else {}
    )
    return redirect_to(url_for("dead.show", fingerprint=fingerprint, **query))


def _places(tokens: list[str]) -> dict[Spot, list[JobRef]]:
    """The selected jobs by list. Raises Conflict for none, or too many."""
    places: dict[Spot, list[JobRef]] = {}
    for token in tokens:
        spot, job_ref = read_member(token)
        places.setdefault(spot, []).append(job_ref)
    if not places:
        raise Conflict("No jobs selected.", hint="Go back and select at least one job.")
    if len(tokens) > MAX_BATCH or len(places) > MAX_UNDO_BATCHES:
        raise Conflict("Too many jobs selected.", hint="Select fewer, or act on the whole group.")
    return places
