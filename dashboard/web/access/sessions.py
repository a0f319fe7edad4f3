"""Who is signed in, by a signed cookie: local users, and whoever has the address that `serve` printed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from typing import TYPE_CHECKING

from flask import Flask, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import BadData, BadSignature, URLSafeSerializer, URLSafeTimedSerializer
from werkzeug.security import check_password_hash

from ...auth import LOCAL, Identity, Role
from ...clock import now_s
from ...errors import QueuedeckError
from ...redact import masked_logger
from ...settings import Settings, UserSettings
from ...sources.source import Source
from ...store.redis_store import PREFIX

if TYPE_CHECKING:
    from flask.wrappers import Request, Response

log = masked_logger(__name__)

ABSOLUTE_S = 12 * 3600
IDLE_S = 3600
# The cookie tells when it was last used; it is made anew no more often than this.
TOUCH_S = 60
# By as much may the clocks of the hosts that share sessions differ.
CLOCKS_S = 300
KNOWN_BROWSER = "queuedeck-known"  # a cookie: who has signed in with this browser before
KNOWN_S = 180 * 24 * 3600
# So long nobody asks a store about ended sessions that did not answer.
UNANSWERED_S = 10.0
MAX_REMEMBERED = 10_000
# Checked for a name that nobody has, so that the answer takes as long as for one that somebody has.
_NOBODY = (
    "scrypt:32768:8:1$rTTLcbPhkSnPBqR8$"
    "2b6a3f0b5e7a8d7a50b1cbb3ab4b1fd0b8b3c1f9a6b46d4d17e4a8b6f77a9a5d"
    "6f2c9e4b0d8a7f3e5c1b9d0e8f7a6c5b4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a"
)


class _Cookies(SecureCookieSessionInterface):
    """A cookie for the path of the dashboard alone: the host's own sessions stay untouched."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """As Flask does it, but for the age: ours ends by its own times, whichever host's clock runs ahead."""
        signer = self.get_signing_serializer(app)
        if signer is None:
            return None
        try:
            return self.session_class(signer.loads(request.cookies.get(self.get_cookie_name(app)) or ""))
        except BadSignature:
            return self.session_class()

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """As Flask's since 3.1; earlier ones know no former keys."""
        if not app.config["SECRET_KEY"]:
            return None
        return URLSafeTimedSerializer(
            _signing_keys(app),
            salt=self.salt,
            serializer=self.serializer,
            signer_kwargs={"key_derivation": self.key_derivation, "digest_method": self.digest_method},
        )

    def get_cookie_name(self, app: Flask) -> str:
        name = "__Secure-queuedeck" if request.is_secure else "queuedeck"
        # Browsers do not tell ports apart, and whoever tries things out has several dashboards on one machine.
        return f"{name}-{request.environ.get('SERVER_PORT', '')}" if app.config["COOKIE_BY_PORT"] else name

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

    def matches_token(self, token: str) -> bool:
        """Whether it is this one, after the same time for each wrong one."""
        return hmac.compare_digest(hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(), self._digest)

    def begin_session(self) -> None:
        """Let the browser in; nothing of an earlier session stays."""
        session.clear()
        session.update(start=self._mark, id=secrets.token_urlsafe(16))

    def identity(self, own: Source) -> Identity | None:
        """Who asks: LOCAL in a session of this token, else None. Cost: 1 round trip."""
        if not hmac.compare_digest(str(session.get("start", "")), self._mark) or _is_over(own):
            return None
        return LOCAL

    @property
    def _mark(self) -> str:
        return self._digest[:32]


def install(app: Flask, settings: Settings, start_token: StartToken | None) -> None:
    """Have `app` keep its sessions in a cookie of ours, signed with the settings' keys, else for `start_token`."""
    app.session_interface = _Cookies()
    app.config["SECRET_KEY"] = settings.secret_key or (start_token.secret_key if start_token else None)
    app.config["COOKIE_BY_PORT"] = start_token is not None
    app.config["SECRET_KEY_FALLBACKS"] = list(settings.secret_key_fallbacks)
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False


def signed_in(settings: Settings, own: Source) -> Identity | None:
    """Who is signed in; None when nobody is, or the session is over, or the user's record has changed since.

    `own` knows the sessions that ended. Cost: 1 round trip.
    """
    user = next((user for user in settings.users if user.name == session.get("name")), None)
    if user is None:
        return None
    now = now_s()
    begun, seen = _time_from("at"), _time_from("seen")
    fresh = -CLOCKS_S <= now - begun < ABSOLUTE_S and -CLOCKS_S <= now - seen < IDLE_S
    if not fresh or not hmac.compare_digest(str(session.get("record", "")), account_digest(user)) or _is_over(own):
        session.clear()
        return None
    if now - seen > TOUCH_S:
        session["seen"] = int(now)
    return Identity(name=user.name, role=Role[user.role.upper()])


def begin_session(user: UserSettings) -> None:
    """Sign `user` in; nothing of an earlier session stays."""
    session.clear()
    now = int(now_s())
    session.update(name=user.name, record=account_digest(user), at=now, seen=now, id=secrets.token_urlsafe(16))


def end_session(own: Source) -> None:
    """End the session of this request on all servers, so that a copy of its cookie is worth nothing. 1 round trip."""
    if isinstance(session.get("id"), str):
        _ended.add(own, session["id"])
    session.clear()


def _is_over(own: Source) -> bool:
    name = session.get("id")
    return not isinstance(name, str) or _ended.has(own, name)


def known_browser(app: Flask, name: str) -> str | None:
    """The mark of this browser, when the user of that name has signed in with it before; else None."""
    try:
        found = _browser_signer(app).loads(request.cookies.get(KNOWN_BROWSER) or "")
    except BadData:
        return None
    match found:
        case [str(who), str(mark), int(made)] if now_s() - made < KNOWN_S:
            fits = hmac.compare_digest(who.encode(), name.encode("utf-8", "surrogateescape"))
            return mark if fits else None
    return None


def remember_browser(app: Flask, response: Response, name: str) -> None:
    """Let this browser be known for the user of that name, for KNOWN_S."""
    response.set_cookie(
        KNOWN_BROWSER,
        str(_browser_signer(app).dumps([name, secrets.token_urlsafe(16), int(now_s())])),
        max_age=KNOWN_S,
        path=request.script_root or "/",
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )


def _browser_signer(app: Flask) -> URLSafeSerializer:
    return URLSafeSerializer(_signing_keys(app), salt="queuedeck known browser")


def _signing_keys(app: Flask) -> list[str]:
    """The keys that signatures may have been made with, the one for new ones last."""
    return [*app.config["SECRET_KEY_FALLBACKS"], app.config["SECRET_KEY"]]


class EndedSessions:
    """The sessions that somebody has signed out of, until they would have ended by themselves.

    In the store for all processes, in memory for a store that is down: then nobody is locked out, and what ended here
    stays ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, float] = {}  # key -> monotonic end
        self._ask_again = 0.0

    def add(self, own: Source, name: str) -> None:
        """Note that the session of that name ended. Cost: 1 round trip."""
        key, now = _ended_key(name), time.monotonic()
        with self._lock:
            if len(self._own) >= MAX_REMEMBERED:
                self._own = {each: until for each, until in self._own.items() if until > now}
            self._own[key] = now + ABSOLUTE_S + CLOCKS_S
        try:
            own.execute("SET", key, 1, "EX", ABSOLUTE_S + CLOCKS_S)
        except QueuedeckError as exc:
            log.warning("other processes cannot be told that a session ended: %s", exc)

    def has(self, own: Source, name: str) -> bool:
        """Whether it ended. Cost: 1 round trip; none for UNANSWERED_S after the store did not answer."""
        key = _ended_key(name)
        if key in self._own:
            return True
        if time.monotonic() < self._ask_again:
            return False
        try:
            return bool(own.execute("EXISTS", key))
        except QueuedeckError:
            self._ask_again = time.monotonic() + UNANSWERED_S
            return False


def _ended_key(name: str) -> str:
    return f"{PREFIX}:ended:{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:32]}"


_ended = EndedSessions()


def safe_path(target: str | None) -> str:
    """`target` when it is a path below the mount point that leads nowhere else, else "/"."""
    if not target or not target.startswith("/") or target.startswith("//"):
        return "/"
    if any(ord(char) < 33 or ord(char) == 127 or char == "\\" for char in target):
        return "/"
    return target[:2000]


def account_digest(user: UserSettings) -> str:
    """A digest of all that a session stands on: with another password or role it ends."""
    text = "\0".join((user.name, user.password_hash, user.role))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _time_from(name: str) -> float:
    value = session.get(name)
    return float(value) if isinstance(value, int | float) else float("-inf")


def check_password(settings: Settings, name: str, password: str) -> UserSettings | None:
    """The user of that name and password; None otherwise, after the same time."""
    user = next((user for user in settings.users if user.name == name), None)
    fits = check_password_hash(user.password_hash if user else _NOBODY, password)
    return user if fits else None
