"""Sign-in by name and password, where the settings configure users; and sign-out."""

from __future__ import annotations

from functools import cache

from flask import Blueprint, current_app, make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ....auth import is_forwarded
from ....backends.actions import Outcome
from ....errors import NotFound
from ....redact import masked_logger
from ....settings import UserSettings
from ...access import sessions
from ...access.one_time_codes import OneTimeCodes
from ...access.sign_in_limits import CHECKS_AT_ONCE, WINDOW_S, AttemptCounter, SignInAttempt, Turns
from ...access.user_names import UNKNOWN_USER
from ...context import app_context, app_services
from ...forms.request_input import form_fields
from .page import DISABLED, SIGN_IN, SIGN_OUT, has_codes, record_sign_in, render_sign_in

bp = Blueprint("signin", __name__)
log = masked_logger(__name__)

WRONG, WRONG_CODE = "Wrong name or password.", "Wrong name, password or code."
ENDED = "Your session has ended. Sign in, then try again."
LOCKED = "Too many attempts. Try again in 15 minutes."
BUSY = "Too many sign-ins at the moment. Try again in a few seconds."
BUSY_S = 5
MAX_FIELD = 1024

_attempts = AttemptCounter()
_checks, _known_checks = Turns(CHECKS_AT_ONCE), Turns(CHECKS_AT_ONCE)
_codes = OneTimeCodes()


@bp.get("/login")
def form() -> ResponseReturnValue:
    """The sign-in form; with `oidc` and no users, 303 to the provider.

    Not so after a sign-out (`signed_out`), and after a form that was sent without a session (`ended`): browsers follow
    its redirects only within the dashboard.
    """
    settings = app_context().settings
    if not settings.users and settings.oidc is None:
        raise NotFound(DISABLED)
    target = sessions.safe_path(request.args.get("next"))
    if not settings.users and not {"signed_out", "ended"} & set(request.args):
        return redirect(url_for("signin.begin_oidc", next=target), code=303)
    has_signed_out = "signed_out" in request.args and not sessions.has_session()
    return render_sign_in(target, has_signed_out=has_signed_out, wrong=ENDED if "ended" in request.args else None)


@bp.post("/login")
@form_fields("name", "password", "code", "next")
def enter() -> ResponseReturnValue:
    """Check name, password and code: 303 to the requested page, else the form again.

    403 for a wrong name, password or code, 429 with Retry-After after too many attempts, or when too many users sign in
    at the same time. Cost: at most 4 round trips.
    """
    _check_users()
    _check_proxies()
    services = app_services()
    name, password = request.form.get("name", "")[:MAX_FIELD], request.form.get("password", "")[:MAX_FIELD]
    target = sessions.safe_path(request.form.get("next"))
    browser = sessions.known_browser(current_app, name)
    attempt = SignInAttempt(name=name, address=request.remote_addr, browser=browser)
    decision = _attempts.count_attempt(services.store, attempt)
    if not decision.is_allowed:
        if decision.is_recorded:
            _record_attempt(SIGN_IN, name, Outcome.REFUSED, LOCKED)
        return _render_again(target, LOCKED, 429, wait_s=WINDOW_S)
    # A user who has signed in with this browser before does not queue behind strangers.
    with (_checks if browser is None else _known_checks).turn() as is_free:
        if not is_free:
            _attempts.uncount(services.store, attempt)
            return _render_again(target, BUSY, 429, wait_s=BUSY_S)
        user = sessions.check_password(services.settings, name, password)
    if user is None or not _codes.is_right(services.store, user, request.form.get("code", "")[:MAX_FIELD]):
        if decision.is_recorded:
            wrong = "wrong code" if user else "wrong password" if _find_user(name) else "no such user"
            _record_attempt(SIGN_IN, name, Outcome.REFUSED, wrong)
        else:
            log.warning("a sign-in from %s failed; too many to record in the audit log", request.remote_addr)
        return _render_again(target, WRONG_CODE if has_codes() else WRONG, 403)
    _attempts.succeeded(services.store, attempt)
    sessions.begin_session(user)
    _record_attempt(SIGN_IN, name, Outcome.DONE)
    response = make_response(redirect(request.script_root + target, code=303))
    sessions.remember_browser(current_app, response, name)
    return response


@bp.post("/logout")
@form_fields()
def leave() -> ResponseReturnValue:
    """Sign out, on all servers. Cost: at most 3 round trips."""
    services = app_services()
    if current_app.secret_key is None:  # there are no sessions
        raise NotFound(DISABLED)
    identity = sessions.signed_in(services.settings, services.store.source)
    sessions.end_session(services.store.source)
    if identity is not None:
        record_sign_in(SIGN_OUT, identity.name, identity.role.name.lower(), Outcome.DONE)
    return redirect(url_for("signin.form", signed_out=1), code=303)


def _check_users() -> None:
    if not app_context().settings.users:
        raise NotFound(DISABLED)


def _find_user(name: str) -> UserSettings | None:
    return next((user for user in app_context().settings.users if user.name == name), None)


def _render_again(target: str, wrong: str, status: int, *, wait_s: int | None = None) -> ResponseReturnValue:
    headers = {"Retry-After": str(wait_s)} if wait_s else {}
    return render_sign_in(target, wrong=wrong), status, headers


def _record_attempt(action: str, name: str, outcome: Outcome, detail: str | None = None) -> None:
    user = _find_user(name)
    record_sign_in(action, name if user else UNKNOWN_USER, user.role if user else "unknown", outcome, detail)


def _check_proxies() -> None:
    if not app_context().settings.trusted_proxies and is_forwarded(request.environ):
        _warn_of_proxy()


@cache  # once per process
def _warn_of_proxy() -> None:
    log.warning(
        "requests arrive through a proxy: set trusted_proxies; until then, the audit log and the sign-in limits see "
        "every user under the proxy's address"
    )
