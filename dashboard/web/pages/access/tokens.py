"""API tokens: the list, the form that creates one, and the question before one is revoked."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....actions import audit_log
from ....auth import Role
from ....clock import instant, now_s
from ....errors import Conflict, Forbidden, NotFound
from ....units import format_count
from ...access.security import current_actor
from ...access.token_store import MAX_DAYS, CreatedToken, ListedToken, TokenStore, is_token_name
from ...access.user_names import folded_name, taken_names
from ...context import app_context, app_services
from ...formatting import format_moment
from ...forms.request_input import form_fields
from ...views.confirmation import Confirmation
from .. import layout
from ..job_actions import checked_reason, given_reason

bp = Blueprint("tokens", __name__)
edit_bp = Blueprint("tokens_edit", __name__, url_prefix="/tokens")

DAYS = (7, 30, 90, 365)
NO_KEY = "Set secret_key in the settings to create tokens here: it protects them against changes in Redis."


@bp.get("/tokens")
def index() -> str:
    """The tokens, newest first, and the form of a new one. Cost: 1 round trip."""
    return _render({})


@edit_bp.post("")
@form_fields("name", "role", "days", "reason")
def create() -> ResponseReturnValue:
    """Create a token: the page that shows it this once, or the form again with its errors. Cost: 3 round trips."""
    form = {name: request.form.get(name, "").strip() for name in ("name", "role", "days")}
    errors = _errors(form)
    reason = given_reason(request.form.get("reason"))
    if reason is None and app_context().settings.require_reason:
        errors["reason"] = "Enter what this token is for."
    if errors:
        return _render({"form": form, "errors": errors}), 422
    store, actor = _required_store(), current_actor()
    token, text = store.create(form["name"], Role[form["role"].upper()], int(form["days"]), actor.name)
    _record("create token", token, f"{token.name} ({token.role}, {form['days']} days)", reason)
    return _render({"created": token, "text": text})


@edit_bp.get("/<segment:token_id>/revoke")
def ask_to_revoke(token_id: str) -> str:
    """The question before a token is revoked. Cost: 1 round trip."""
    listed = _find(token_id)
    token = listed.token
    used = f"{format_moment(instant(listed.used_at))} UTC" if listed.used_at else "never"
    created = f"{format_moment(instant(token.created_at))} UTC by {token.created_by}"
    question = Confirmation(
        heading=f"Revoke the API token {token.name}?",
        verb="Revoke token",
        facts=(("Role", token.role), ("Created", created), ("Last used", used)),
        notes=("Whatever uses it has no access from then on. This cannot be undone.",),
        target=url_for(".revoke", token_id=token_id),
        fields=(),
        cancel=url_for("tokens.index"),
    )
    return _render_question(question)


@edit_bp.post("/<segment:token_id>/revoke")
@form_fields("reason")
def revoke(token_id: str) -> ResponseReturnValue:
    """Revoke a token: 303 to the list. Cost: 3 round trips."""
    reason = checked_reason(request.form.get("reason"), hint="Enter why this token is revoked.")
    token = _find(token_id).token
    _required_store().revoke(token_id)
    _record("revoke token", token, token.name, reason)
    return redirect(url_for("tokens.index", did="revoked"), code=303)


@edit_bp.get("/clean")
def ask_to_clean() -> str:
    """The question before the tokens that cannot be verified are removed. Cost: 1 round trip."""
    count = len(_required_store().list_tokens().unverified)
    question = Confirmation(
        heading=f"Remove {format_count(count, 'token')} that cannot be verified?",
        verb="Remove tokens",
        facts=(),
        notes=(
            "They were made with another secret_key, or another program wrote them. If secret_key was replaced, list "
            "the previous one in secret_key_fallbacks instead: then they work again. This cannot be undone.",
        ),
        target=url_for(".clean"),
        fields=(),
        cancel=url_for("tokens.index"),
    )
    return _render_question(question)


@edit_bp.post("/clean")
@form_fields("reason")
def clean() -> ResponseReturnValue:
    """Remove the tokens that cannot be verified: 303 to the list."""
    reason = checked_reason(request.form.get("reason"), hint="Enter why these tokens are removed.")
    count = _required_store().remove_unverified()
    event = audit_log.build_event(
        current_actor(), "revoke token", count=count, reason=reason, detail=f"{count} that could not be verified"
    )
    app_services().action_service.audit_log.record_event(event)
    return redirect(url_for("tokens.index", did="cleaned"), code=303)


@edit_bp.before_request
def _refuse_tokens() -> None:
    """A token that leaks must not be able to make others, which outlive it."""
    if request.headers.get("Authorization"):
        raise Forbidden("API tokens are managed by users who have signed in, not with a token.")


def _render_question(question: Confirmation) -> str:
    page = layout.page_context(app_services().snapshots.current(), "")
    return render_template("actions/confirm.html", **page, question=question)


def _render(more: dict[str, Any]) -> str:
    settings, store = app_context().settings, app_context().token_store
    values = {
        "of_settings": [entry.split(":")[:2] for entry in settings.api_tokens],
        "listed": store.list_tokens() if store else None,
        "now": now_s(),
        "days": DAYS,
        "form": {"name": "", "role": "viewer", "days": "90"},
        "errors": {},
        "created": None,
        "no_key": NO_KEY,
        "did": request.args.get("did"),
    }
    return render_template(
        "access/tokens.html", **layout.page_context(app_services().snapshots.current(), ""), **values | more
    )


def _errors(form: dict[str, str]) -> dict[str, str]:
    """What is wrong with the fields of a new token."""
    errors = {}
    taken = taken_names(app_context().settings) | _required_store().list_names()
    if not is_token_name(form["name"]):
        errors["name"] = "Enter 1 to 64 letters, digits or any of . _ @ + -, a letter or digit first."
    elif folded_name(form["name"]) in map(folded_name, taken):
        errors["name"] = (
            "A token or a local user has this name already: actions are recorded under it. If you have just created it "
            "and did not see the token, revoke it and create another one."
        )
    if form["role"] not in {role.name.lower() for role in Role}:
        errors["role"] = "Choose a role."
    if not form["days"].isascii() or not form["days"].isdecimal() or not 1 <= int(form["days"][:9]) <= MAX_DAYS:
        errors["days"] = f"Enter 1 to {MAX_DAYS} days."
    return errors


def _find(token_id: str) -> ListedToken:
    found = next((each for each in _required_store().list_tokens().tokens if each.token.id == token_id), None)
    if found is None:
        raise NotFound("This token no longer exists.")
    return found


def _required_store() -> TokenStore:
    store = app_context().token_store
    if store is None:
        raise Conflict("secret_key is required for tokens.", hint=NO_KEY)
    return store


def _record(action: str, token: CreatedToken, detail: str, reason: str | None) -> None:
    event = audit_log.build_event(current_actor(), action, ids=(token.id,), reason=reason, detail=detail)
    app_services().action_service.audit_log.record_event(event)
