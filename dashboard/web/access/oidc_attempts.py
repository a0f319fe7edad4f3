"""Sign-ins at a provider that have begun in this browser, each in a cookie of its own.

Only the browser that began a sign-in can end it. The session could not hold the attempts: tabs that are restored
together send the same cookie, and of their answers the last one wins.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from flask import Flask, current_app, request
from flask.wrappers import Response
from itsdangerous import BadData, URLSafeSerializer

from ...clock import now_s
from .sessions import signing_keys

_PREFIX = "queuedeck-oidc-"
_STATE = re.compile(r"[A-Za-z0-9_-]{22}\Z")
MAX_ATTEMPTS = 8  # as many tabs can sign in at once
WITHIN_S = 3600  # how long a user can take at the provider
MAX_TARGET = 400


class Attempt(NamedTuple):
    """A sign-in that has begun: what its end is checked against."""

    state: str
    nonce: str
    verifier: str


def remember(response: Response, attempt: Attempt, target: str) -> None:
    """Remember an attempt, and the path to open after it, in a cookie of `response`; forget the oldest of too many."""
    known = [name for name in request.cookies if name.startswith(_PREFIX)]
    for name in known[: max(0, len(known) + 1 - MAX_ATTEMPTS)]:
        response.delete_cookie(name, path=_path())
    kept = target if len(target) <= MAX_TARGET else "/"
    response.set_cookie(
        _cookie_name(attempt.state),
        str(_signer(current_app).dumps([*attempt, kept, int(now_s())])),
        max_age=WITHIN_S,
        path=_path(),
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )


def find(state: str) -> tuple[Attempt, str] | None:
    """The attempt with this state and the path to open after it; None if this browser has not begun it lately."""
    if not _STATE.match(state):
        return None
    try:
        found = _signer(current_app).loads(request.cookies.get(_cookie_name(state)) or "")
    except BadData:
        return None
    match found:
        case [str(known), str(nonce), str(verifier), str(target), int(begun)]:
            is_recent = known == state and abs(now_s() - begun) < WITHIN_S
            return (Attempt(known, nonce, verifier), target) if is_recent else None
    return None


def forget(response: Response, state: str) -> None:
    """An attempt ends with its first answer."""
    response.delete_cookie(_cookie_name(state), path=_path())


def _cookie_name(state: str) -> str:
    return f"{_PREFIX}{state[:8]}"


def _path() -> str:
    return f"{request.script_root}/login/oidc"


def _signer(app: Flask) -> URLSafeSerializer:
    return URLSafeSerializer(signing_keys(app), salt="queuedeck sign-in at a provider")
