"""Sessions in a signed cookie: of local users, of those of a provider, and of the address that `serve` prints."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from flask import Flask, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import BadData, BadSignature, URLSafeSerializer, URLSafeTimedSerializer
from werkzeug.security import check_password_hash

from ...auth import LOCAL, Identity, Role
from ...clock import now_s
from ...errors import QueuedeckError
from ...redact import masked_logger
from ...rights.assignment import group_names
from ...settings import Settings, UserSettings
from ...sources.source import Source
from ...store.redis_store import PREFIX
from .oidc_claims import oidc_digest

if TYPE_CHECKING:
    from flask.wrappers import Request, Response

log = masked_logger(__name__)

ABSOLUTE_S = 12 * 3600
IDLE_S = 3600
# The cookie records when it was last used; it is renewed at most this often.
TOUCH_S = 60
# The most by which the clocks of the hosts that share sessions can differ.
CLOCKS_S = 300
KNOWN_BROWSER = "queuedeck-known"  # a cookie: the user who last signed in with this browser
KNOWN_S = 180 * 24 * 3600
# How long a store that did not respond is not asked again about ended sessions.
UNANSWERED_S = 10.0
MAX_REMEMBERED = 10_000
# Checked for an unknown name, so that the response takes as long as for a known one.
_NOBODY = (
    "scrypt:32768:8:1$rTTLcbPhkSnPBqR8$"
    "2b6a3f0b5e7a8d7a50b1cbb3ab4b1fd0b8b3c1f9a6b46d4d17e4a8b6f77a9a5d"
    "6f2c9e4b0d8a7f3e5c1b9d0e8f7a6c5b4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a"
)


class _Cookies(SecureCookieSessionInterface):
    """A cookie for the path of the dashboard only: sessions of the host application are not affected."""

    salt = "queuedeck session"  # with the same secret_key, a cookie of the host application is none of ours

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """As Flask does, without the check of age: the session itself has its times, with tolerance for clocks."""
        signer = self.get_signing_serializer(app)
        if signer is None:
            return None
        try:
            return self.session_class(signer.loads(request.cookies.get(self.get_cookie_name(app)) or ""))
        except BadSignature:
            return self.session_class()

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """As in Flask since 3.1; earlier versions do not support fallback keys."""
        if not app.config["SECRET_KEY"]:
            return None
        return URLSafeTimedSerializer(
            signing_keys(app),
            salt=self.salt,
            serializer=self.serializer,
            signer_kwargs={"key_derivation": self.key_derivation, "digest_method": self.digest_method},
        )

    def get_cookie_name(self, app: Flask) -> str:
        name = "__Secure-queuedeck" if request.is_secure else "queuedeck"
        # Browsers share cookies between ports, and several dashboards may run on one machine.
        return f"{name}-{request.environ.get('SERVER_PORT', '')}" if app.config["COOKIE_BY_PORT"] else name

    def get_cookie_path(self, app: Flask) -> str:  # noqa: ARG002
        return request.script_root or "/"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


class StartToken:
    """Access without configured users: a secret in the address that `serve` prints, valid as long as the process runs.

    The address is exchanged for a session; processes forked with the token accept each other's sessions.
    """

    PARAMETER = "token"

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).hexdigest()
        self.secret_key = hashlib.sha256(f"session\0{token}".encode()).hexdigest()

    def matches_token(self, token: str) -> bool:
        """Whether `token` is this one, compared in constant time."""
        return hmac.compare_digest(hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(), self._digest)

    def begin_session(self) -> None:
        """Begin a session; discards any earlier one."""
        session.clear()
        session.update(start=self._mark, id=secrets.token_urlsafe(16))

    def identity(self, own: Source) -> Identity | None:
        """LOCAL in a session of this token, else None. Cost: 1 round trip."""
        if not hmac.compare_digest(str(session.get("start", "")), self._mark) or _is_over(own):
            return None
        return LOCAL

    @property
    def _mark(self) -> str:
        return self._digest[:32]


def install(app: Flask, settings: Settings, start_token: StartToken | None) -> None:
    """Store the sessions of `app` in this cookie, signed with the settings' keys or that of `start_token`."""
    app.session_interface = _Cookies()
    app.config["SECRET_KEY"] = settings.secret_key or (start_token.secret_key if start_token else None)
    app.config["COOKIE_BY_PORT"] = start_token is not None
    app.config["SECRET_KEY_FALLBACKS"] = list(settings.secret_key_fallbacks)
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False


def signed_in(settings: Settings, own: Source) -> Identity | None:
    """The signed-in user; None without one, after the session has expired, or after the user's account has changed.

    `own` stores the sessions that ended. Cost: 1 round trip.
    """
    found = _account_of_session(settings)
    if found is None:
        return None
    identity, record = found
    now = now_s()
    begun, seen = _time_from("at"), _time_from("seen")
    fresh = -CLOCKS_S <= now - begun < ABSOLUTE_S and -CLOCKS_S <= now - seen < IDLE_S
    if not fresh or not hmac.compare_digest(str(session.get("record", "")), record) or _is_over(own):
        session.clear()
        return None
    if now - seen > TOUCH_S:
        session["seen"] = int(now)
    return identity


def _account_of_session(settings: Settings) -> tuple[Identity, str] | None:
    """The user that the session names, and the digest of what it depends on; None without either."""
    name, role = session.get("name"), session.get("role")
    if role is not None:  # signed in at the provider
        if settings.oidc is None or not isinstance(name, str) or role not in Role.__members__:
            return None
        groups = session.get("groups", ())
        if not isinstance(groups, list | tuple) or not all(isinstance(group, str) for group in groups):
            return None
        digest = oidc_digest(settings.oidc, group_names(settings.grants))
        return Identity(name=name, role=Role[role], groups=tuple(groups)), digest
    user = next((user for user in settings.users if user.name == name), None)
    return None if user is None else (Identity(name=user.name, role=Role[user.role.upper()]), account_digest(user))


def begin_session(user: UserSettings) -> None:
    """Sign `user` in; discards any earlier session."""
    _begin(user.name, account_digest(user))


def begin_oidc_session(identity: Identity, settings: Settings, sign_out_url: str | None) -> None:
    """Sign in the user whom the provider named, with this role and these groups until the session ends; discards any
    earlier session. `settings` with oidc.

    `sign_out_url`: where the user can end the session at the provider.
    """
    assert settings.oidc is not None
    _begin(identity.name, oidc_digest(settings.oidc, group_names(settings.grants)))
    session["role"] = identity.role.name
    if identity.groups:
        session["groups"] = list(identity.groups)
    if sign_out_url is not None:
        session["provider"] = sign_out_url


def _begin(name: str, record: str) -> None:
    session.clear()
    now = int(now_s())
    session.update(name=name, record=record, at=now, seen=now, id=secrets.token_urlsafe(16))


def end_session(own: Source) -> None:
    """End the session of this request on all servers, so that copies of its cookie become invalid. 1 round trip.

    What stays is the address where the user can end the session at the provider.
    """
    if isinstance(session.get("id"), str):
        _ended.add(own, session["id"])
    url = provider_sign_out()
    session.clear()
    if url is not None:
        session["provider"] = url


def provider_sign_out() -> str | None:
    """Where the user, whose session may have ended, can end the one at the provider; None if that is unknown."""
    url = session.get("provider")
    return url if isinstance(url, str) else None


def has_session() -> bool:
    """Whether this browser has a session, which may have expired."""
    return "name" in session


def _is_over(own: Source) -> bool:
    name = session.get("id")
    return not isinstance(name, str) or _ended.has(own, name)


def known_browser(app: Flask, name: str) -> str | None:
    """The id of this browser, if the user of that name has signed in with it before; else None."""
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
    """Remember this browser as known for the user of that name, for KNOWN_S."""
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
    return URLSafeSerializer(signing_keys(app), salt="queuedeck known browser")


def signing_keys(app: Flask) -> list[str]:
    """The accepted signing keys; the last one signs."""
    return [*app.config["SECRET_KEY_FALLBACKS"], app.config["SECRET_KEY"]]


class EndedSessions:
    """Sessions ended by sign-out, until they would have expired.

    They are in the store for all processes, and in memory for when the store is down: then no user is locked out, and
    sessions that ended in this process stay ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, float] = {}  # key -> monotonic end
        self._ask_again = 0.0

    def add(self, own: Source, name: str) -> None:
        """Record that the session of that name has ended. Cost: 1 round trip."""
        key, now = _ended_key(name), time.monotonic()
        with self._lock:
            if len(self._own) >= MAX_REMEMBERED:
                self._own = {each: until for each, until in self._own.items() if until > now}
            self._own[key] = now + ABSOLUTE_S + CLOCKS_S
        try:
            own.execute("SET", key, 1, "EX", ABSOLUTE_S + CLOCKS_S)
        except QueuedeckError as exc:
            log.warning("cannot store that a session ended, so other processes still accept it: %s", exc)

    def has(self, own: Source, name: str) -> bool:
        """Whether it has ended. Cost: 1 round trip; none for UNANSWERED_S after the store did not respond."""
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
    """`target` if it is a path below the mount point that cannot lead to another site or out of it, else "/"."""
    if not target or not target.startswith("/") or target.startswith("//"):
        return "/"
    if {".", ".."} & set(unquote(target.partition("?")[0].partition("#")[0]).split("/")):
        return "/"
    if any(ord(char) < 33 or ord(char) == 127 or char == "\\" for char in target):
        return "/"
    return target[:2000]


def account_digest(user: UserSettings) -> str:
    """A digest of the account that a session depends on: a changed password, role or secret ends the session."""
    text = "\0".join((user.name, user.password_hash, user.role, user.totp_secret or ""))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _time_from(name: str) -> float:
    value = session.get(name)
    return float(value) if isinstance(value, int | float) else float("-inf")


def check_password(settings: Settings, name: str, password: str) -> UserSettings | None:
    """The user with that name and password, else None; takes the same time for unknown names."""
    user = next((user for user in settings.users if user.name == name), None)
    fits = check_password_hash(user.password_hash if user else _NOBODY, password)
    return user if fits else None
