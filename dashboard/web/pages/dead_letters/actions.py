"""Actions on the selected jobs of an error group: a plain form, answered with 303 to the page that shows the result."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue

from ....backends.actions import MAX_BATCH, ActionResult, JobRef, Outcome
from ....dead_letters.fingerprint import is_fingerprint
from ....errors import Conflict, NotFound, Unsupported
from ...context import app_context, app_services
from ...forms.job_tokens import SelectedList, read_member_token
from ...forms.request_input import form_fields
from ...views.flash import MAX_UNDO_BATCHES, ActionFlash
from ...views.group_table import ACTIONS
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
    selected = _selected_jobs(request.form.getlist("pick"))
    backend_of = app_services().sources.backend
    # Of all lists, before any job changes.
    refs = {each: app_context().find_queue_stats(each.source, each.backend, each.queue).ref for each in selected}
    results: list[ActionResult] = []
    batches: list[str | None] = []
    for selected_list, job_refs in selected.items():
        ref, state = refs[selected_list], selected_list.state
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


def _selected_jobs(tokens: list[str]) -> dict[SelectedList, list[JobRef]]:
    """The selected jobs by list. Raises Conflict for none, or too many."""
    selected: dict[SelectedList, list[JobRef]] = {}
    for token in tokens:
        selected_list, job_ref = read_member_token(token)
        selected.setdefault(selected_list, []).append(job_ref)
    if not selected:
        raise Conflict("No jobs selected.", hint="Go back and select at least one job.")
    if len(tokens) > MAX_BATCH or len(selected) > MAX_UNDO_BATCHES:
        raise Conflict("Too many jobs selected.", hint="Select fewer, or act on the whole group.")
    return selected
