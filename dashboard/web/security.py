"""What every request passes: who asks, may they, and the headers that keep a browser from being used against us."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, Response, g, request, session

from dashboard.access import Identify, Identity, Role, local_identity, token_identity
from dashboard.acts.audit import Actor
from dashboard.errors import ConfigurationError, Forbidden
from dashboard.web import sessions
from dashboard.web.deck import deck

if TYPE_CHECKING:
    from werkzeug.routing import Rule

# Who may use which part of the app, by blueprint or endpoint; what is not listed stops the start. None = anybody.
ROLES: dict[str, Role | None] = {
    "static": None,
    "health": None,
    "metrics": None,  # asks for itself: a token or this machine
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
CLOSED = "Queuedeck answers only to this machine until access is configured."
CLOSED_HINT = (
    "Open it as http://127.0.0.1:PORT or through an SSH tunnel, set QUEUEDECK_API_TOKENS for scripts, or mount it into "
    "an app with identify=… to let the app's own users in."
)


def install(app: Flask, identify: Identify | None) -> None:
    """Guard all routes of `app`, those registered so far. Raises ConfigurationError for a route without a role."""
    for rule in app.url_map.iter_rules():
        if _key(rule) not in ROLES:
            raise ConfigurationError(f"route {rule.rule} ({rule.endpoint}) has no role in web/security.py")

    @app.before_request
    def guard() -> None:
        endpoint = request.endpoint or ""
        role = ROLES.get(endpoint.partition(".")[0], Role.VIEWER)
        if role is None:
            if request.method not in SAFE_METHODS and not _same_origin():
                raise Forbidden(FOREIGN, hint=FOREIGN_HINT)
            return
        identity = _identify(identify)
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
        return response

    app.jinja_env.globals["csp_nonce"] = _LazyNonce()
    app.jinja_env.globals.update(
        may_act=lambda: may(Role.OPERATOR),
        may_admin=lambda: may(Role.ADMIN),
        identity=lambda: g.get("identity"),
        what_fires=lambda: deck().firing() if "identity" in g else None,
        signed_in_here=lambda: bool(deck().settings.users) and "name" in session,
    )


class Unidentified(Forbidden):
    """Nobody is signed in, where people can sign in: a page leads to the form, anything else is told so."""

    code = "not_signed_in"


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


def _identify(identify: Identify | None) -> Identity:
    """Who asks. Raises Forbidden for a stranger, a wrong token, and a change asked for by another site."""
    settings = deck().settings
    with_token = request.headers.get("Authorization", "").lower().startswith("bearer ")
    if with_token:
        identity = token_identity(request.environ, settings.api_tokens)
        if identity is None:
            raise Forbidden("This API token is not known here.", hint="Check QUEUEDECK_API_TOKENS.")
        return identity
    if request.method not in SAFE_METHODS and not _same_origin():
        raise Forbidden(FOREIGN, hint=FOREIGN_HINT)
    if identify is not None:
        identity = identify(request.environ)
        if identity is None:
            raise Forbidden("You are not signed in.", hint="Sign in to the application that this dashboard is part of.")
        return identity
    if settings.users:
        identity = sessions.signed_in(settings)
        if identity is None:
            raise Unidentified("You are not signed in.", hint="Sign in, or send an API token.")
        return identity
    identity = local_identity(request.environ, settings.trusted_hosts)
    if identity is None:
        raise Forbidden(CLOSED, hint=CLOSED_HINT)
    return identity


def _same_origin() -> bool:
    """Whether the browser says that one of our own pages sent this; browsers leave Sec-Fetch-Site out on plain http."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("Origin", ""))
    return bool(origin.netloc) and (origin.scheme, origin.netloc) == (request.scheme, request.host)
