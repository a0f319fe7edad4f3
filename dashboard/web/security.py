"""What every request passes: who asks, may they, and the headers that keep a browser from being used against us."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from flask import Flask, Response, g, redirect, request, session
from flask.typing import ResponseReturnValue

from dashboard.access import LOCAL_HOSTS, Identify, Identity, Role, host_name, local_identity, token_identity
from dashboard.acts.audit import Actor
from dashboard.errors import ConfigurationError, Forbidden
from dashboard.web import sessions
from dashboard.settings import Settings
from dashboard.web.deck import deck

if TYPE_CHECKING:
    from werkzeug.routing import Rule

# Who may use which part of the app, by blueprint or endpoint; what is not listed stops the start. None = anybody.
ROLES: dict[str, Role | None] = {
    "static": None,
    "health": None,
    "metrics": None,  # asks for itself: a token, unless it is public
    "overview": Role.VIEWER,
    "queues": Role.VIEWER,
    "jobs": Role.VIEWER,
    "people": Role.VIEWER,
    "searching": Role.VIEWER,
    "api": Role.VIEWER,
    "api_history": Role.VIEWER,
    "openapi": Role.VIEWER,
    "dead": Role.VIEWER,
    "dead_acts": Role.OPERATOR,
    "dead_edit": Role.OPERATOR,
    "api_dead": Role.VIEWER,
    "signin": None,
    "acts": Role.OPERATOR,
    "bulk": Role.VIEWER,
    "bulk_edit": Role.OPERATOR,
    "audit": Role.ADMIN,
    "alerting": Role.VIEWER,
    "alerting_edit": Role.OPERATOR,
    "api_alerting": Role.VIEWER,
    "rules": Role.VIEWER,
    "rules_edit": Role.ADMIN,
    "api_rules": Role.ADMIN,
    "api_acts": Role.OPERATOR,
    "api_bulk": Role.VIEWER,
    "api_audit": Role.ADMIN,
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

FOREIGN = "This change was not asked for by a page of this dashboard."
FOREIGN_HINT = "Reload the page and try again; a script sends an API token: Authorization: Bearer …"
CLOSED = "Nobody is let in here yet: no sign-in is configured."
CLOSED_HINT = (
    "Configure one of these: users ([[users]]) with a secret_key; identify=… where another application mounts this one; "
    "api_tokens for scripts. `queuedeck serve` prints an address with a token that lets you in. On a machine of your own "
    'auth = "none" (or --no-auth) lets in whoever sits there.'
)
NOT_LOCAL = "Without a sign-in (auth = none) only this machine itself is answered."
NOT_LOCAL_HINT = (
    "Open it as http://127.0.0.1:PORT or through an SSH tunnel, never through a proxy. For others, configure a sign-in: "
    "users, identify=… or api_tokens."
)
TOKEN_NEEDED = "This dashboard lets in who opens the address that it printed at its start."
TOKEN_HINT = "Look for http://…/?token=… where `queuedeck serve` or the demo was started. A new start makes a new one."


class Door:
    """Who is let into one app, and how. One of: identify, users, the start token, whoever sits here, nobody."""

    def __init__(self, settings: Settings, identify: Identify | None, start_token: str | None) -> None:
        """Raises ConfigurationError for ways that exclude each other."""
        if identify is not None and not callable(identify):
            raise ConfigurationError("keyword identify: expected a callable that takes a WSGI environ")
        if settings.trusted_hosts and not (settings.users or identify):
            raise ConfigurationError(
                "trusted_hosts: expected a sign-in beside it (users or identify): a host name lets nobody in"
            )
        self.settings = settings
        self.identify = identify
        wanted = start_token and not (identify or settings.users or settings.auth == "none")
        self.start_token = sessions.StartToken(start_token) if start_token and wanted else None

    def identity(self) -> Identity:
        """Who asks. Raises Forbidden for a stranger, a wrong token, and a change asked for by another site."""
        settings = self.settings
        if request.headers.get("Authorization", "").lower().startswith("bearer "):
            identity = token_identity(request.environ, settings.api_tokens)
            if identity is None:
                raise UnknownToken("This API token is not known here.", hint="Check QUEUEDECK_API_TOKENS.")
            return identity
        if request.method not in SAFE_METHODS and not _same_origin():
            raise Forbidden(FOREIGN, hint=FOREIGN_HINT)
        if self.identify is not None:
            return self._identified(self.identify)
        if settings.users:
            identity = sessions.signed_in(settings)
            if identity is None:
                raise Unidentified("You are not signed in.", hint="Sign in, or send an API token.")
            return identity
        if self.start_token is not None:
            return self._known(self.start_token.identity(), TOKEN_NEEDED, TOKEN_HINT)
        if settings.auth == "none":
            return self._known(local_identity(request.environ), NOT_LOCAL, NOT_LOCAL_HINT)
        raise Forbidden(CLOSED, hint=CLOSED_HINT)

    @staticmethod
    def _identified(identify: Identify) -> Identity:
        identity = identify(request.environ)
        if identity is None:
            raise Forbidden("You are not signed in.", hint="Sign in to the application that this dashboard is part of.")
        if not isinstance(identity, Identity):
            raise ConfigurationError(f"identify answered a {type(identity).__name__}: expected an Identity or None")
        return identity

    @staticmethod
    def _known(identity: Identity | None, message: str, hint: str) -> Identity:
        if identity is None:
            raise Forbidden(message, hint=hint)
        return identity


def install(app: Flask, door: Door) -> None:
    """Guard all routes of `app`, those registered so far. Raises ConfigurationError for a route without a role."""
    for rule in app.url_map.iter_rules():
        if _key(rule) not in ROLES:
            raise ConfigurationError(f"route {rule.rule} ({rule.endpoint}) has no role in web/security.py")

    @app.before_request
    def enter() -> ResponseReturnValue | None:
        """Exchange the token of the address for a session, and drop it from the address."""
        token = request.args.get(sessions.StartToken.PARAMETER)
        if door.start_token is None or token is None or request.method != "GET":
            return None
        if not door.start_token.fits(token):
            raise Forbidden(TOKEN_NEEDED, hint=TOKEN_HINT)
        door.start_token.begin()
        rest = [(name, value) for name, value in request.args.items(multi=True) if name != sessions.StartToken.PARAMETER]
        query = f"?{urlencode(rest)}" if rest else ""
        return redirect(request.script_root + quote(request.path) + query, code=303)

    @app.before_request
    def guard() -> None:
        trusted = door.settings.trusted_hosts
        if trusted and host_name(request.environ) not in LOCAL_HOSTS | set(trusted):
            raise Forbidden("This host name is not answered here.", hint="Name it in trusted_hosts.")
        endpoint = request.endpoint or ""
        role = ROLES.get(endpoint.partition(".")[0], Role.VIEWER)
        if role is None:
            if request.method not in SAFE_METHODS and not _same_origin():
                raise Forbidden(FOREIGN, hint=FOREIGN_HINT)
            return
        identity = door.identity()
        if identity.role < role:
            raise Forbidden(
                f"This needs the role {role.name.lower()}; {identity.name} is {identity.role.name.lower()}."
            )
        g.identity = identity

    @app.after_request
    def protect(response: Response) -> Response:
        headers = response.headers
        headers["Content-Security-Policy"] = _policy(csp_nonce())
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "same-origin"  # with no-referrer the Origin of a form post becomes null
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["X-Frame-Options"] = "DENY"
        headers.setdefault("Cache-Control", "no-store")
        if response.status_code == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="Queuedeck"'
        return response

    app.jinja_env.globals["csp_nonce"] = _LazyNonce()
    app.jinja_env.globals.update(
        may_act=lambda: may(Role.OPERATOR),
        may_admin=lambda: may(Role.ADMIN),
        identity=lambda: g.get("identity"),
        what_fires=lambda: deck().firing() if "identity" in g else None,
        signed_in_here=lambda: bool(deck().settings.users) and "name" in session,
        open_door=lambda: door.identify is None and door.settings.auth == "none",
    )


class Unidentified(Forbidden):
    """Nobody is signed in, where people can sign in: a page leads to the form, anything else is told so."""

    code = "not_signed_in"


class UnknownToken(Forbidden):
    """The bearer token that came is none of the settings'."""

    code = "unknown_token"


def may(role: Role) -> bool:
    """Whether the person who asks has at least this role, and anything can be changed here at all."""
    identity: Identity | None = g.get("identity")
    if role > Role.VIEWER and deck().settings.read_only:
        return False
    return identity is not None and identity.role >= role


def actor() -> Actor:
    """Who asks, for the audit."""
    identity: Identity = g.identity
    return Actor(name=identity.name, role=identity.role.name.lower(), address=request.remote_addr)


class _LazyNonce:
    """The nonce of the present response, as text, for `{{ csp_nonce }}` in a template."""

    def __str__(self) -> str:
        return csp_nonce()

    def __html__(self) -> str:
        return csp_nonce()


def csp_nonce() -> str:
    """The nonce of the present response."""
    if "csp_nonce" not in g:
        g.csp_nonce = secrets.token_urlsafe(18)
    return str(g.csp_nonce)


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx"
    )


def _key(rule: Rule) -> str:
    endpoint: str = rule.endpoint
    return endpoint.partition(".")[0]


def _same_origin() -> bool:
    """Whether the browser says that one of our own pages sent this; browsers leave Sec-Fetch-Site out on plain http."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("Origin", ""))
    return bool(origin.netloc) and (origin.scheme, origin.netloc) == (request.scheme, request.host)
