"""Signing in and out, where the settings name users."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from dashboard.errors import NotFound
from dashboard.web import sessions
from dashboard.web.deck import deck
from dashboard.web.request_input import form_fields

bp = Blueprint("signin", __name__)

WRONG = "This name and password do not fit."
LOCKED = "Too many tries. Wait 15 minutes, then try again."
MAX_FIELD = 1024

_tries = sessions.Tries()


@bp.get("/login")
def form() -> ResponseReturnValue:
    """The form."""
    _check_users()
    return render_template("signin.html", next=safe_next(request.args.get("next")), wrong=None)


@bp.post("/login")
@form_fields("name", "password", "next")
def enter() -> ResponseReturnValue:
    """Check name and password; 303 to where the person wanted to go, 403 with the form again, 429 after five slips."""
    _check_users()
    here = deck()
    name, password = request.form.get("name", "")[:MAX_FIELD], request.form.get("password", "")[:MAX_FIELD]
    target = safe_next(request.form.get("next"))
    if _tries.exhausted(here.own_source, request, name):
        return render_template("signin.html", next=target, wrong=LOCKED), 429
    user = sessions.check(here.settings, name, password)
    if user is None:
        return render_template("signin.html", next=target, wrong=WRONG), 403
    _tries.forget(here.own_source, request, name)
    sessions.begin(user)
    return redirect(request.script_root + target, code=303)


@bp.post("/logout")
@form_fields()
def leave() -> ResponseReturnValue:
    """Sign out."""
    session.clear()
    return redirect(url_for("signin.form"), code=303)


def safe_next(target: str | None) -> str:
    """`target` when it is a path below the mount point that leads nowhere else, else "/"."""
    if not target or not target.startswith("/") or target.startswith("//"):
        return "/"
    if any(ord(char) < 33 or ord(char) == 127 or char == "\\" for char in target):
        return "/"
    return target[:2000]


def _check_users() -> None:
    if not deck().settings.users:
        raise NotFound("Nobody signs in here.")
