"""Who is signed in, by a signed cookie: local users, and whoever has the address that `serve` printed.

Also: how often somebody may try a password.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from typing import TYPE_CHECKING

from flask import Flask, request, session
from flask.sessions import SecureCookieSessionInterface
from werkzeug.security import check_password_hash

from dashboard.access import LOCAL, Identity, Role
from dashboard.clock import now_s
from dashboard.collect.store import PREFIX
from dashboard.errors import QueuedeckError
from dashboard.settings import Settings, UserSettings
from dashboard.sources import Source

if TYPE_CHECKING:
    from flask.wrappers import Request

ABSOLUTE_S = 12 * 3600
IDLE_S = 3600
# The cookie tells when it was last used; it is made anew no more often than this.
TOUCH_S = 60
TRIES = 5
TRIES_WINDOW_S = 15 * 60
MAX_REMEMBERED = 10_000
# Checked for a name that nobody has, so that the answer takes as long as for one that somebody has.
_NOBODY = (
    "scrypt:32768:8:1$rTTLcbPhkSnPBqR8$"
    "2b6a3f0b5e7a8d7a50b1cbb3ab4b1fd0b8b3c1f9a6b46d4d17e4a8b6f77a9a5d"
    "6f2c9e4b0d8a7f3e5c1b9d0e8f7a6c5b4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a"
)


class _Cookies(SecureCookieSessionInterface):
    """A cookie for the path of the dashboard alone: the host's own sessions stay untouched."""

    def get_cookie_name(self, app: Flask) -> str:  # noqa: ARG002
        return "__Secure-queuedeck" if request.is_secure else "queuedeck"

    def get_cookie_path(self, app: Flask) -> str:  # noqa: ARG002
        return request.script_root or "/"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


class StartToken:
    """The way in while nobody else is configured: a secret in the address that `serve` prints, gone with the process.

    The address is exchanged for a session; processes that were forked with it know each other's sessions.
    """

    PARAMETER = "token"

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).hexdigest()
        self.secret_key = hashlib.sha256(f"session\0{token}".encode()).hexdigest()

    def fits(self, token: str) -> bool:
        """Whether it is this one, after the same time for each wrong one."""
        return hmac.compare_digest(hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(), self._digest)

    def begin(self) -> None:
        """Let the browser in; nothing of an earlier session stays."""
        session.clear()
        session["start"] = self._mark

    def identity(self) -> Identity | None:
        """Who asks: LOCAL in a session of this token, else None."""
        return LOCAL if hmac.compare_digest(str(session.get("start", "")), self._mark) else None

    @property
    def _mark(self) -> str:
        return self._digest[:32]


def install(app: Flask, settings: Settings, start_token: StartToken | None) -> None:
    """Have `app` keep its sessions in a cookie of ours, signed with the settings' keys, else for `start_token`."""
    app.session_interface = _Cookies()
    app.config["SECRET_KEY"] = settings.secret_key or (start_token.secret_key if start_token else None)
    app.config["SECRET_KEY_FALLBACKS"] = list(settings.secret_key_fallbacks)
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False


def signed_in(settings: Settings) -> Identity | None:
    """Who is signed in; None when nobody is, or the session is over, or the user's record has changed since."""
    user = next((user for user in settings.users if user.name == session.get("name")), None)
    if user is None:
        return None
    now = now_s()
    begun, seen = _time("at"), _time("seen")
    fresh = 0 <= now - begun < ABSOLUTE_S and 0 <= now - seen < IDLE_S
    if not fresh or not hmac.compare_digest(str(session.get("record", "")), record(user)):
        session.clear()
        return None
    if now - seen > TOUCH_S:
        session["seen"] = int(now)
    return Identity(name=user.name, role=Role[user.role.upper()])


def begin(user: UserSettings) -> None:
    """Sign `user` in; nothing of an earlier session stays."""
    session.clear()
    now = int(now_s())
    session.update(name=user.name, record=record(user), at=now, seen=now)


def record(user: UserSettings) -> str:
    """A digest of all that a session stands on: with another password or role it ends."""
    text = "\0".join((user.name, user.password_hash, user.role))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _time(name: str) -> float:
    value = session.get(name)
    return float(value) if isinstance(value, int | float) else float("-inf")


def check(settings: Settings, name: str, password: str) -> UserSettings | None:
    """The user of that name and password; None otherwise, after the same time."""
    user = next((user for user in settings.users if user.name == name), None)
    fits = check_password_hash(user.password_hash if user else _NOBODY, password)
    return user if fits else None


class Tries:
    """How often a wrong password was given, by name and address: in Redis for all processes, in memory without it.

    Redis that is down must not lock anybody out, nor open the door to guessing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, tuple[int, float]] = {}  # -> (tries, monotonic end)

    def exhausted(self, own: Source | None, asked: Request, name: str) -> bool:
        """Count one try; True when there were more than TRIES of them within the window. Cost: 1 round trip."""
        key = self._key(asked, name)
        here = self._count_here(key)
        if own is None:
            return here > TRIES
        try:
            replies = own.batch(
                [("SET", key, 0, "EX", TRIES_WINDOW_S, "NX"), ("INCR", key)]  # at most one small key a try
            )
        except QueuedeckError:
            return here > TRIES
        count = replies[1]
        return (count if isinstance(count, int) else here) > TRIES

    def forget(self, own: Source | None, asked: Request, name: str) -> None:
        """Somebody signed in: earlier slips do not count."""
        key = self._key(asked, name)
        with self._lock:
            self._own.pop(key, None)
        if own is not None:
            try:
                own.batch([("DEL", key)])
            except QueuedeckError:
                return

    def _count_here(self, key: str) -> int:
        now = time.monotonic()
        with self._lock:
            if len(self._own) >= MAX_REMEMBERED:
                self._own = {each: entry for each, entry in self._own.items() if entry[1] > now}
            if len(self._own) >= MAX_REMEMBERED:
                self._own.clear()
            count, until = self._own.get(key, (0, now + TRIES_WINDOW_S))
            if until <= now:
                count, until = 0, now + TRIES_WINDOW_S
            self._own[key] = (count + 1, until)
            return count + 1

    @staticmethod
    def _key(asked: Request, name: str) -> str:
        digest = hashlib.sha256(f"{name}\0{asked.remote_addr}".encode("utf-8", "surrogateescape")).hexdigest()
        return f"{PREFIX}:tries:{digest[:32]}"
