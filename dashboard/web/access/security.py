"""Checks of every request: authentication, roles, same origin; and the security headers of every response."""

from __future__ import annotations

import secrets
from dataclasses import replace
from urllib.parse import urlsplit

from flask import Flask, Response, g, redirect, request, session
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import MethodNotAllowed

from ...actions.audit_log import Actor
from ...auth import (
    LOCAL_HOSTS,
    Identify,
    Identity,
    Role,
    bearer_token,
    host_name,
    local_identity,
    token_identity,
)
from ...errors import ConfigurationError, Forbidden
from ...rights.assignment import NO_GRANTS, RightsAssignment, effective_role
from ...rights.rights import Rights
from ...settings import Settings
from ..context import app_context, app_services
from ..rights.routes import ONLY_SOME, ROUTES, find_obstacle, is_listed, required_of
from . import sessions
from .proxy_sign_in import ProxySignIn, find_user
from .refusals import record_refusal
from .token_store import is_created_token

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

FOREIGN = "Request blocked: it did not come from this dashboard (CSRF check)."
FOREIGN_HINT = "Reload the page and try again. Scripts send an API token: Authorization: Bearer …"
CLOSED = "Access is not configured."
CLOSED_HINT = (
    "Add users ([[users]] and secret_key), oidc or proxy_sign_in, pass identify=… where an application mounts this "
    "dashboard, or use api_tokens for scripts. `queuedeck serve` prints an address with a token. On your own machine, "
    'auth = "none" (--no-auth) disables sign-in.'
)
NOT_LOCAL = "Sign-in is disabled (auth = none): only requests from this machine are accepted."
NOT_LOCAL_HINT = (
    "Open http://127.0.0.1:PORT directly or through an SSH tunnel, not through a proxy. To give other users access, "
    "configure users, oidc, proxy_sign_in, identify=… or api_tokens."
)
READ_ONLY = "This Queuedeck runs in read-only mode (read_only in its settings)"
PRINTED_ONLY = "Open the address that Queuedeck printed when it started."
PRINTED_ONLY_HINT = (
    "It ends in ?token=…. Look in the terminal that runs queuedeck serve or the demo; every start prints a new one. "
    "For sign-in with a password, configure users; at a provider, oidc; at a proxy, proxy_sign_in."
)


class Authenticator:
    """Decides who has access to one app, by one of: identify, users and a provider, a proxy's sign-in, the start
    token, or any user of this machine.

    Without any of them, no one has access.
    """

    def __init__(
        self,
        settings: Settings,
        identify: Identify | None,
        start_token: str | None,
        rights: RightsAssignment = NO_GRANTS,
    ) -> None:
        """`rights`: by the grants of the settings. Raises ConfigurationError for settings that exclude each other."""
        if identify is not None and not callable(identify):
            raise ConfigurationError("identify must be a callable that takes a WSGI environ")
        for other in ("proxy_sign_in", "oidc"):
            if identify is not None and getattr(settings, other) is not None:
                raise ConfigurationError(f"expected either identify or {other}, not both")
        has_sign_in = bool(identify or settings.users or settings.oidc or settings.proxy_sign_in)
        if settings.trusted_hosts and not has_sign_in:
            raise ConfigurationError(
                "trusted_hosts requires users, oidc, proxy_sign_in or identify: a host name alone grants no access"
            )
        self.settings = settings
        self.identify = identify
        self._rights = rights
        # The accepted host names; empty = all.
        trusted = frozenset(host.lower() for host in settings.trusted_hosts)
        self.hosts = trusted | LOCAL_HOSTS if trusted else frozenset()
        wanted = not (has_sign_in or settings.auth == "none")
        self.start_token = sessions.StartToken(start_token) if start_token and wanted else None
        self.proxy_sign_in = (
            ProxySignIn(settings.proxy_sign_in, _own_hosts(settings), self._rights) if settings.proxy_sign_in else None
        )

    def identify_request(self) -> Identity:
        """The identity of the user. Raises Forbidden for an unknown user or token, and for a cross-site change."""
        settings = self.settings
        if request.headers.get("Authorization", "").lower().startswith("bearer "):
            identity = identify_token()
            if identity is None:
                raise UnknownToken("Unknown API token.", hint="It may have expired, or been revoked.")
            return identity
        if _may_change() and not _same_origin():
            raise Forbidden(FOREIGN, hint=FOREIGN_HINT)
        if self.identify is not None:
            return self._host_identity(self.identify)
        if settings.users or settings.oidc:
            identity = sessions.signed_in(settings, app_services().store.source)
            if identity is None:
                raise Unidentified("You are not signed in.", hint="Sign in or send an API token.")
            return identity
        if self.proxy_sign_in is not None:
            return self.proxy_sign_in.identity(request.environ)
        if self.start_token is not None:
            return self._require_known(
                self.start_token.identity(app_services().store.source), PRINTED_ONLY, PRINTED_ONLY_HINT
            )
        if settings.auth == "none":
            return self._require_known(local_identity(request.environ), NOT_LOCAL, NOT_LOCAL_HINT)
        raise Forbidden(CLOSED, hint=CLOSED_HINT)

    def exchange_start_token(self) -> ResponseReturnValue | None:
        """Exchange the token in the URL for a session, and remove it from the URL."""
        token = request.args.get(sessions.StartToken.PARAMETER)
        if self.start_token is None or token is None or request.method != "GET":
            return None
        if required_of(request.endpoint) is None:
            return None
        if not self.start_token.matches_token(token):
            raise Forbidden(PRINTED_ONLY, hint=PRINTED_ONLY_HINT)
        self.start_token.begin_session()
        query = request.query_string.decode("ascii", "replace").split("&")
        rest = "&".join(part for part in query if part.partition("=")[0] != sessions.StartToken.PARAMETER)
        target = sessions.safe_path(request.path + (f"?{rest}" if rest else ""))
        return redirect(request.script_root + target, code=303)

    def guard_request(self) -> None:
        """Refuse the request unless its user has the role that the route requires."""
        if self.hosts and host_name(request.environ) not in self.hosts:
            raise Forbidden("Unknown host name.", hint="Add it to trusted_hosts.")
        required = required_of(request.endpoint)
        if required is None:
            if _may_change() and not _same_origin():
                raise Forbidden(FOREIGN, hint=FOREIGN_HINT)
            return
        found = self.identify_request()
        rights = self._rights.rights_of(found)
        # The page that refuses says to whom, and offers to sign out.
        role = effective_role(rights)
        g.identity = identity = found if found.role is role else replace(found, role=role)
        g.rights = rights
        problem = find_obstacle(identity, rights, required)
        if problem is not None:
            if _may_change():
                record_refusal(identity, f"which needs the {required.role.name.lower()} role")
            raise problem

    @staticmethod
    def _host_identity(identify: Identify) -> Identity:
        identity = identify(request.environ)
        if identity is None:
            raise Forbidden("You are not signed in.", hint="Sign in to the application that this dashboard is part of.")
        if not isinstance(identity, Identity):
            raise ConfigurationError(f"identify returned a {type(identity).__name__}: expected an Identity or None")
        return identity

    @staticmethod
    def _require_known(identity: Identity | None, message: str, hint: str) -> Identity:
        if identity is None:
            raise Forbidden(message, hint=hint)
        return identity


def _own_hosts(settings: Settings) -> frozenset[str]:
    """The host names under which users open the dashboard, as far as the settings name them."""
    public = host_name({"HTTP_HOST": urlsplit(settings.public_url or "").netloc})
    return frozenset(host.lower() for host in settings.trusted_hosts) | ({public} if public else frozenset())


def install(app: Flask, authenticator: Authenticator) -> None:
    """Guard all routes registered so far in `app`. Raises ConfigurationError for a route without a role."""
    for rule in app.url_map.iter_rules():
        if not is_listed(rule.endpoint):
            raise ConfigurationError(f"route {rule.rule} ({rule.endpoint}) has no entry in web/rights/routes.py")
    app.before_request(authenticator.exchange_start_token)
    app.before_request(authenticator.guard_request)
    app.after_request(_set_security_headers)
    _add_template_globals(app, authenticator)


def _set_security_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", _content_policy(csp_nonce()))  # a file has a stricter one
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"  # with no-referrer the Origin of a form post becomes null
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["X-Frame-Options"] = "DENY"
    headers["Queuedeck-Response"] = "1"  # read by static/js/live.js: a proxy may answer in place of the dashboard
    headers.setdefault("Cache-Control", "no-store")
    if response.status_code == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="Queuedeck"'
    return response


def _add_template_globals(app: Flask, authenticator: Authenticator) -> None:
    app.jinja_env.globals["csp_nonce"] = _LazyNonce()
    app.jinja_env.globals.update(
        may_act=lambda: has_role(Role.OPERATOR),
        may_admin=lambda: has_role(Role.ADMIN),
        may_edit_rules=lambda: may_edit("rules_edit"),
        may_open=may_open,
        sees_all=sees_all,
        identity=lambda: g.get("identity"),
        view_only_line=view_only_line,
        write_obstacle=lambda queue: app_context().caches.write_obstacle(queue) if has_role(Role.OPERATOR) else None,
        wants_reason=lambda: app_context().settings.require_reason,
        is_watched=lambda source, backend: app_services().sources.is_watched(source, backend),
        alerts_elsewhere=lambda: app_services().alert_service.ownership.conflict,
        firing_summary=lambda: app_context().caches.firing_summary() if "identity" in g else None,
        signed_in_here=may_sign_out,
        proxy_sign_in=lambda: app_context().settings.proxy_sign_in,
        proxy_user=lambda: find_user(request.environ),
        is_sign_in_off=lambda: authenticator.identify is None and authenticator.settings.auth == "none",
    )


class Unidentified(Forbidden):
    """No user is signed in, and sign-in is enabled. A page redirects to the sign-in form; other requests get this."""

    code = "not_signed_in"


class UnknownToken(Forbidden):
    """The bearer token is neither one of the settings' api_tokens, nor one that was created and is still valid."""

    code = "unknown_token"


def has_role(role: Role) -> bool:
    """Whether the user has at least this role. False for any role above viewer in read-only mode."""
    identity: Identity | None = g.get("identity")
    if role > Role.VIEWER and app_context().settings.read_only:
        return False
    return identity is not None and identity.role >= role


def may_open(blueprint: str) -> bool:
    """Whether the user may open the pages of a blueprint."""
    identity: Identity | None = g.get("identity")
    required = ROUTES[blueprint]
    return required is None or (identity is not None and find_obstacle(identity, g.rights, required) is None)


def sees_all() -> bool:
    """Whether the user may see all queues, so that pages can show what is about all of them together."""
    rights: Rights | None = g.get("rights")
    return rights is not None and rights.sees_all


def check_sees_all() -> None:
    """Raise Forbidden for a user who may see only some queues."""
    if not sees_all():
        raise Forbidden(ONLY_SOME)


def may_edit(blueprint: str) -> bool:
    """Whether the user may use the routes of a blueprint that change something; False in read-only mode."""
    return not app_context().settings.read_only and may_open(blueprint)


def view_only_line(what: str, role: str = "operator") -> str | None:
    """Why this page has no buttons for `what` ("retrying and deleting"); None for a user who has the role."""
    needed = Role[role.upper()]
    identity: Identity | None = g.get("identity")
    if identity is None or has_role(needed):
        return None
    if app_context().settings.read_only and identity.role >= needed:
        return f"View only: {READ_ONLY[0].lower()}{READ_ONLY[1:]}."
    words = "need" if " and " in what else "needs"
    return f"View only: {what} {words} the {role} role. Signed in as {identity.name} ({identity.role.name.lower()})."


def current_actor() -> Actor:
    """The user of this request, for the audit log."""
    identity: Identity = g.identity
    return Actor(name=identity.name, role=identity.role.name.lower(), address=request.remote_addr)


def may_sign_out() -> bool:
    """Whether the user has a session of ours, which can be ended."""
    settings = app_context().settings
    return bool(settings.users or settings.oidc) and "name" in session


def rights_of(identity: Identity) -> Rights:
    """The rights of a user or a token by the settings of this app."""
    return app_context().rights.rights_of(identity)


def identify_token() -> Identity | None:
    """Whose bearer token the request has: one of the settings, or one that was created on the page; None without one.

    Cost: none for a token of the settings, else that of `TokenStore.find`.
    """
    found = token_identity(request.environ, app_context().settings.api_tokens)
    token = bearer_token(request.environ)
    if found is not None or token is None or not is_created_token(token):
        return found
    store = app_context().token_store
    return store.find(token) if store is not None else None


class _LazyNonce:
    """The nonce of the current response, as text, for `{{ csp_nonce }}` in a template."""

    def __str__(self) -> str:
        return csp_nonce()

    def __html__(self) -> str:
        return csp_nonce()


def csp_nonce() -> str:
    """The nonce of the current response."""
    if "csp_nonce" not in g:
        g.csp_nonce = secrets.token_urlsafe(18)
    return str(g.csp_nonce)


def _content_policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx"
    )


def _may_change() -> bool:
    """Whether the request can change anything: if its address does not have its method, no view runs."""
    return request.method not in SAFE_METHODS and not isinstance(request.routing_exception, MethodNotAllowed)


def _same_origin() -> bool:
    """Whether the browser reports that this dashboard sent the request. Browsers omit Sec-Fetch-Site on plain http."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("Origin", ""))
    return bool(origin.netloc) and (origin.scheme, origin.netloc) == (request.scheme, request.host)
