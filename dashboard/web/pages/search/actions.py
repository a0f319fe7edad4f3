"""Actions on jobs that a search found: a plain form, answered with 303 to the search."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue

from ....backends.actions import Action
from ....errors import Unsupported
from ....search.query import MAX_QUERY
from ...forms.request_input import form_fields
from ...urls import read_segment
from ...views.search_results import ACTIONS
from .. import confirmations
from ..job_actions import ACTION, redirect_to
from ..selected_jobs import act_on_selected, wanted_selection

bp = Blueprint("search_actions", __name__, url_prefix="/search")

FIELDS = (*ACTION, "q", "only")


@bp.post("/act")
@form_fields(*FIELDS, many=("pick",))
def on_jobs() -> ResponseReturnValue:
    """Apply an action to the selected jobs, list by list: they can be in lists of several queues and libraries."""
    action, tokens = wanted_selection()
    _check_action(action)
    return redirect_to(_search_url(**act_on_selected(action, tokens).query))


@bp.post("/confirm")
@form_fields(*FIELDS, many=("pick",))
def confirm() -> str:
    """The question before an action on the selected jobs: how many of which queues."""
    action, tokens = wanted_selection()
    _check_action(action)
    return confirmations.ask_about_selected(
        action, tokens, target=url_for("search_actions.on_jobs"), cancel=_search_url()
    )


def _check_action(action: Action) -> None:
    if action not in ACTIONS:
        raise Unsupported("This action is not available for search results.")


def _search_url(**query: Any) -> str:
    return url_for("search.index", q=read_segment(request.form.get("q", ""))[:MAX_QUERY] or None, **query)
