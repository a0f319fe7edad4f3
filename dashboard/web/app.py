"""The Flask app, and how to mount it under a path of another WSGI app."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import Htmx
from jinja2 import StrictUndefined
from msgspec import UNSET
from msgspec.structs import replace
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from .. import errors
from ..auth import Identify, parse_networks
from ..redact import RedactHook, mask_text, masked_logger, name_hook
from ..settings import Settings, load
from ..sources.request_timeouts import wait_once
from . import assets, formatting, fragments, health, prometheus
from .access import root_path, security, sessions
from .access.proxies import TrustedProxies
from .access.proxy_sign_in import ProxyHeaders
from .access.refusals import record_refusal
from .access.root_path import RootPath, redirect_into
from .api import actions as api_actions
from .api import alerts as api_alerts
from .api import dead_letters as api_dead_letters
from .api import history, openapi
from .api import marks as api_marks
from .api import queues as api_queues
from .api import rules as api_rules
from .api import trash as api_trash
from .api.incidents import incidents as api_incidents
from .api.responses import ErrorDetailJson, ErrorJson, encode_json
from .api.reveal import reveal as api_reveal
from .api.servers import servers as api_servers
from .api.slos import slos as api_slos
from .context import EXTENSION, AppContext, app_context
from .forms import job_tokens, request_input
from .pages import (
    audit,
    charts,
    confirmations,
    job_actions,
    jobs,
    overview,
    palette,
    queues,
    schedules,
    workers,
)
from .pages.access import rights, tokens
from .pages.alerts import alerts, firing_groups, rules, silences
from .pages.bulk import operation_list as bulk_list
from .pages.bulk import operations as bulk
from .pages.classes import class_list
from .pages.dead_letters import actions as dead_letter_actions
from .pages.dead_letters import groups, notes
from .pages.incidents import incident_pages
from .pages.marks import mark_forms
from .pages.moments import asked_moment
from .pages.reveal import reveal
from .pages.search import actions as search_actions
from .pages.search import results as search_results
from .pages.servers import leftovers, memory, servers
from .pages.sign_in import passwords as sign_in
from .pages.sign_in import provider as _provider_sign_in  # noqa: F401  adds its routes to the blueprint
from .pages.slos import slos
from .pages.trash import batches as trash
from .rendered_fragment import GZIP_FROM_BYTES, GZIP_LEVEL
from .urls import EncodedPath, SegmentConverter
from .views import confirmation, flash, offered_actions
from .views.problems.alert_problems import status_text

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = masked_logger(__name__)

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel the folders are inside the package, in a checkout beside it.
_ROOT = _PACKAGE if (_PACKAGE / "templates").is_dir() else _PACKAGE.parent
MAX_REQUEST_BYTES = 1024 * 1024

READS = (
    *(
        overview.bp,
        palette.bp,
        queues.bp,
        charts.bp,
        servers.bp,
        memory.bp,
        leftovers.bp,
        class_list.bp,
        slos.bp,
        jobs.bp,
        workers.bp,
        schedules.bp,
        search_results.bp,
        api_queues.bp,
        history.bp,
        api_servers.bp,
        api_slos.bp,
        openapi.bp,
        prometheus.bp,
        health.bp,
    ),
    *(groups.bp, api_dead_letters.bp, rules.bp),
    *(sign_in.bp, bulk_list.bp, audit.bp, api_actions.bulk_bp, api_actions.audit_bp, alerts.bp, firing_groups.bp),
    *(api_alerts.bp, api_rules.bp, trash.bp, api_trash.bp, api_marks.bp),
    *(reveal.bp, api_reveal.bp),  # reveals what is masked and changes no queue
    *(incident_pages.bp, api_incidents.bp, tokens.bp, rights.bp, rights.own_bp),
)
# In read-only mode these routes do not exist.
WRITES = (
    job_actions.bp,
    confirmations.bp,
    bulk.edit_bp,
    api_actions.bp,
    alerts.edit_bp,
    api_alerts.edit_bp,
    silences.edit_bp,
    rules.edit_bp,
    api_rules.edit_bp,
    dead_letter_actions.bp,
    search_actions.bp,
    notes.bp,
    trash.edit_bp,
    api_trash.edit_bp,
    mark_forms.edit_bp,
    api_marks.edit_bp,
    tokens.edit_bp,
)
_STATUS: tuple[tuple[type[errors.QueuedeckError], int], ...] = (
    (security.Unidentified, 401),
    (security.UnknownToken, 401),
    (errors.NotFound, 404),
    (errors.Forbidden, 403),
    (errors.Conflict, 409),
    (errors.Unsupported, 422),
    (errors.WrongType, 409),
    (errors.BackendUnavailable, 503),
    (errors.UnreadableData, 503),
    (errors.NotMeasured, 503),
)
# Reasons for which Redis itself does not respond, or not yet.
_DOWN = frozenset({"refused", "timeout", "loading", "lost", "tls", "auth"})


def create_app(
    settings: Settings | None = None,
    /,
    *,
    config: str | None = None,
    identify: Identify | None = None,
    start_token: str | None = None,
    redact: RedactHook | None = None,
    **keywords: Any,
) -> Flask:
    """The dashboard as a Flask app. Settings come from `config` (TOML), the environment and keywords; later ones win.

    `identify(environ)` returns the user's identity when the app is part of another one. `start_token` gives access to
    anyone who opens `/?token=…`. `redact(text)` returns the parts of a text from Redis to hide, as a list of texts.
    Without either, and without users, every page returns 403 and says what to configure.
    Raises ConfigurationError. Opens no connection and starts no thread before the first request; see `AppContext`.
    """
    settings = settings or load(config=config, keywords=keywords)
    if redact is not None:
        settings = _with_hook(settings, redact)
    knows_people = identify or settings.users or settings.oidc or settings.proxy_sign_in
    if settings.bulk_approval_over is not None and not knows_people:
        raise errors.ConfigurationError("bulk_approval_over: expected only with users or another sign-in")
    context = AppContext(settings)
    authenticator = security.Authenticator(settings, identify, start_token, context.rights)
    app = Flask("dashboard", static_folder=None, template_folder=str(_ROOT / "templates"))
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = MAX_REQUEST_BYTES
    app.url_map.converters["segment"] = SegmentConverter
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.autoescape = True
    Htmx(app)
    app.extensions[EXTENSION] = context
    _register_blueprints(app, read_only=settings.read_only)
    sessions.install(app, settings, authenticator.start_token)
    assets.install(app, _ROOT / "static")
    app.jinja_env.globals.update(
        job_token=job_tokens.job_token,
        member_token=job_tokens.member_token,
        verbs=flash.VERBS,
        bulk_verb=flash.bulk_verb,
        bulk_words=flash.bulk_words,
        danger=flash.DANGER,
        confirmed=confirmation.CONFIRMED,
        status_text=status_text,
        why_unsupported=offered_actions.why_unsupported,
    )
    formatting.install(app)
    asked_moment.install(app)
    app.after_request(_compress_response)  # runs after the headers below are set: Flask calls these in reverse order
    root_path.refuse_other_paths(app)
    security.install(app, authenticator)
    request_input.install(app, openapi.QUERIES)  # after the guard, so that a stranger's body is not read
    _answer_errors(app)
    inner = _with_one_wait(EncodedPath(app.wsgi_app))
    app.wsgi_app = _behind_proxies(inner, settings)  # type: ignore[assignment, method-assign]
    return app


def _with_hook(settings: Settings, redact: RedactHook) -> Settings:
    """The settings with the hook that the application passes. Raises ConfigurationError if they name another one."""
    name = name_hook(redact)
    if settings.redaction.hook not in (None, name):
        raise errors.ConfigurationError("redaction.hook: expected either this setting or redact=…, not both")
    return replace(settings, redaction=replace(settings.redaction, hook=name))


def mount(wsgi_app: WSGIApplication, path: str, **settings: Any) -> WSGIApplication:
    """A WSGI app that serves the dashboard under `path` and everything else from `wsgi_app`.

    Sampling and alerting begin in each process with its first request, whichever page it is for. `settings` are those
    of create_app. Raises ConfigurationError for a path that is not like "/queues".
    """
    if not path.startswith("/") or path.endswith("/") or "//" in path:
        raise errors.ConfigurationError(f"mount path {path!r}: expected a path such as /queues")
    dashboard = create_app(**settings)
    if dashboard.extensions[EXTENSION].settings.root_path is not None:
        raise errors.ConfigurationError("root_path: expected only without mount, whose path the dashboard has")

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # With the first request for any page: alerting must not wait until a user opens the dashboard.
        dashboard.extensions[EXTENSION].start_in_background()
        asked = environ.get("PATH_INFO", "")
        if asked != path and not asked.startswith(path + "/"):
            return wsgi_app(environ, start_response)
        if asked == path:
            return redirect_into(path, environ, start_response)
        inner = dict(environ)
        inner["SCRIPT_NAME"], inner["PATH_INFO"] = environ.get("SCRIPT_NAME", "") + path, asked[len(path) :]
        return dashboard(inner, start_response)

    return dispatch


def _register_blueprints(app: Flask, *, read_only: bool) -> None:
    """Register each blueprint once, since modules of one topic can share one."""
    for blueprint in dict.fromkeys((*READS, *(() if read_only else WRITES))):
        app.register_blueprint(blueprint)


def _with_one_wait(wsgi_app: WSGIApplication) -> WSGIApplication:
    """The same app; a request that only reads waits once for a Redis that does not respond."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return wsgi_app(environ, start_response)
        with wait_once():
            return wsgi_app(environ, start_response)

    return serve


def _behind_proxies(wsgi_app: WSGIApplication, settings: Settings) -> WSGIApplication:
    """The same app, with what proxies say about a request applied to it. The outermost sees the connection itself."""
    if settings.root_path is not None:
        wsgi_app = RootPath(wsgi_app, settings.root_path)
    proxies = settings.trusted_proxies
    if isinstance(proxies, int):
        wsgi_app = TrustedProxies(wsgi_app, count=proxies) if proxies else wsgi_app
    elif proxies:
        wsgi_app = TrustedProxies(wsgi_app, networks=parse_networks(proxies))
    return ProxyHeaders(wsgi_app, settings.proxy_sign_in) if settings.proxy_sign_in is not None else wsgi_app


def _answer_errors(app: Flask) -> None:
    """Render errors as a page, or as JSON below /api. Details of unexpected errors go only to the log."""

    @app.errorhandler(errors.QueuedeckError)
    def known(exc: errors.QueuedeckError) -> ResponseReturnValue:
        if isinstance(exc, security.Unidentified) and not fragments.is_htmx_request() and not _is_api():
            ended = None if request.method in security.SAFE_METHODS else 1
            return redirect(url_for("signin.form", next=_wanted_path(), ended=ended), code=303)
        if (
            isinstance(exc, errors.NotFound)
            and request.method == "GET"
            and fragments.is_htmx_request()
            and not _is_api()
        ):
            return fragments.gone_response(_error_line(exc.message, exc.hint))
        if isinstance(exc, security.Unidentified) and fragments.is_htmx_request():
            return Response(
                _error_line("Your session has ended.", "Reload the page to sign in."), 401, mimetype="text/plain"
            )
        if isinstance(exc, errors.RightMissing) and "identity" in g:
            record_refusal(g.identity, exc.message)
        status = next((status for kind, status in _STATUS if isinstance(exc, kind)), 500)
        undo_batch = exc.undo_batch if isinstance(exc, errors.OutcomeUnknown) else None
        response = make_response(_error_response(status, exc.code, exc.message, exc.hint, undo_batch))
        if isinstance(exc, errors.BackendUnavailable) and exc.reason in _DOWN:
            fragments.stamp_outage(response, exc)
        return response

    @app.errorhandler(HTTPException)
    def http(exc: HTTPException) -> ResponseReturnValue:
        status = exc.code or 500
        if status < 400:
            return exc.get_response()
        name = HTTPStatus(status).name.lower()
        message = "Page not found." if status == 404 else (exc.description or exc.name)
        read_only = status in (404, 405) and request.method not in security.SAFE_METHODS and "identity" in g
        hint = f"{security.READ_ONLY}." if read_only and app_context().settings.read_only else None
        response = app.make_response(_error_response(status, name, message, hint))
        if isinstance(exc, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(exc.valid_methods or ()))
        return response

    @app.errorhandler(Exception)
    def unforeseen(exc: Exception) -> ResponseReturnValue:
        log.error("%s %s failed", request.method, request.path, exc_info=exc)
        return _error_response(500, "internal", "Internal error.", "See Queuedeck's log for details.")


def _error_response(
    status: int, code: str, message: str, hint: str | None, undo_batch: str | None = None
) -> ResponseReturnValue:
    """The response to an error. `undo_batch`: what a delete with an unknown outcome can restore."""
    message = mask_text(message)
    if _is_api():
        error = ErrorDetailJson(code=code, message=formatting.printable(message), hint=hint, batch=undo_batch or UNSET)
        return Response(encode_json(ErrorJson(error=error)), status, mimetype="application/json")
    if fragments.is_htmx_request():
        # A polling page keeps its content and shows this line in its banner.
        return Response(_error_line(message, hint), status, mimetype="text/plain")
    title = HTTPStatus(status).phrase
    found = render_template("error.html", status=status, title=title, message=message, hint=hint, undo_batch=undo_batch)
    return found, status


def _error_line(message: str, hint: str | None) -> str:
    return formatting.printable(errors.join_hint(message, hint))


def _is_api() -> bool:
    # Those are read by static/js/charts.js.
    if request.blueprint in ("charts", "dead", "slos") and request.path.endswith("_data"):
        return True
    return request.path.startswith(("/api/", "/healthz", "/readyz", "/metrics"))


def _wanted_path() -> str:
    """Where to go after sign-in: the requested page, below the mount point."""
    if request.method != "GET":
        return "/"
    query = request.query_string.decode("ascii", "replace")
    return request.path + (f"?{query}" if query else "")


def _compress_response(response: Response) -> Response:
    """Compress pages and JSON where the client accepts it. No response combines a secret with text that an attacker
    chooses."""
    if (
        response.direct_passthrough
        or response.status_code < 200
        or response.status_code in (204, 304)
        or "Content-Encoding" in response.headers
        or "gzip" not in request.headers.get("Accept-Encoding", "")
        or response.mimetype not in ("text/html", "application/json")
        or (response.content_length or 0) < GZIP_FROM_BYTES
    ):
        return response
    response.set_data(gzip.compress(response.get_data(), GZIP_LEVEL, mtime=0))
    response.headers["Content-Encoding"] = "gzip"
    response.vary.add("Accept-Encoding")
    return response
