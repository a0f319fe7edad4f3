"""Actions on the selected jobs of an error group: a plain form, answered with 303 to the page that shows the result."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue

from ....dead_letters.fingerprint import is_fingerprint
from ....errors import NotFound, Unsupported
from ...forms.request_input import form_fields
from ...views.group_table import ACTIONS
from ..job_actions import ACTION, redirect_to, wanted_action
from ..selected_jobs import act_on_selected

bp = Blueprint("dead_letter_actions", __name__, url_prefix="/dead")


@bp.post("/<segment:fingerprint>/act")
@form_fields(*ACTION, "page", many=("pick",))
def on_jobs(fingerprint: str) -> ResponseReturnValue:
    """Apply an action to jobs of an error group, list by list: they can be in lists of several queues and libraries."""
    if not is_fingerprint(fingerprint):
        raise NotFound("This error group does not exist.")
    action = wanted_action()
    if action not in ACTIONS:
        raise Unsupported("This action is not available for error groups.")
    flash = act_on_selected(action, request.form.getlist("pick"))
    page = request.form.get("page", "")
    query = flash.query | ({"page": page} if page.isascii() and page.isdigit() and page != "1" else {})
    return redirect_to(url_for("dead.show", fingerprint=fingerprint, **query))
