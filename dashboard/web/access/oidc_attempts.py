"""Sign-ins at a provider that have begun in this browser: in its session, so that no other browser can end one."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from flask import session

from ...clock import now_s

_KEY = "oidc"
MAX_ATTEMPTS = 4  # as many tabs can sign in at once; a cookie holds few
WITHIN_S = 3600.0  # how long a user can take at the provider
MAX_TARGET = 400


class Attempt(NamedTuple):
    """A sign-in that has begun: what its end is checked against."""

    state: str
    nonce: str
    verifier: str


def remember(attempt: Attempt, target: str) -> None:
    """Remember an attempt, and the path to open after it."""
    kept = target if len(target) <= MAX_TARGET else "/"
    session[_KEY] = [*_known(), [*attempt, kept, int(now_s())]][-MAX_ATTEMPTS:]


def take(state: str) -> tuple[Attempt, str] | None:
    """The attempt with this state and the path to open after it, once; None if this browser has not begun it lately."""
    known = _known()
    found = next((each for each in known if hmac.compare_digest(each[0].encode(), state.encode())), None)
    if found is None:
        return None
    session.pop(_KEY)
    if len(known) > 1:
        session[_KEY] = [each for each in known if each is not found]
    return Attempt(*found[:3]), found[3]


def _known() -> list[list[str]]:
    """The attempts that can still end, oldest first. The cookie is signed, so its content is ours."""
    now = now_s()
    return [each for each in session.get(_KEY, ()) if abs(now - each[4]) < WITHIN_S]
