"""The dashboard under gunicorn: `queuedeck serve`, and the settings for running gunicorn yourself.

`gunicorn --threads 16 -c python:dashboard.web.server wsgi:app`
"""

from __future__ import annotations

import secrets
import socket
from typing import Any

import gunicorn
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.http import wsgi

from ..console import say
from ..errors import ConfigurationError
from ..redact import masked_logger
from ..settings import Settings
from ..settings.proxies import UNIX_SOCKET
from ..settings.redis_urls import redact_url
from .app import create_app
from .context import EXTENSION
from .request_buffering import CONNECTIONS

LEAST_GUNICORN = 26  # the worker extends its threaded worker; a mounted dashboard needs no gunicorn at all
if gunicorn.version_info[0] < LEAST_GUNICORN:
    raise ConfigurationError(
        f"the dashboard's own server needs gunicorn {LEAST_GUNICORN} or later; {gunicorn.__version__} is installed",
        hint="Run pip install --upgrade gunicorn, or install the dashboard in a separate environment.",
    )

log = masked_logger(__name__)
BACKLOG = 2048  # connections waiting to be accepted; gunicorn's default
MAX_THREADS = 500
# gunicorn settings of these names, used by `serve` and by `gunicorn -c`.
worker_class = f"{__package__}.request_buffering.BufferingWorker"
worker_connections = CONNECTIONS
# Request headers cannot change the path, host or scheme of the dashboard, unless `trusted_proxies` allows it.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
wsgi.SERVER = "queuedeck"  # the Server header of every response: hides gunicorn and its version from strangers


def post_worker_init(worker: Any) -> None:
    """gunicorn's hook: start sampling with the worker instead of with its first request."""
    app = getattr(worker, "wsgi", None)
    if isinstance(app, Flask) and EXTENSION in app.extensions:
        app.extensions[EXTENSION].start()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """gunicorn's hook: release the lead, so that another process takes over immediately."""
    app = getattr(worker, "wsgi", None)
    if isinstance(app, Flask) and EXTENSION in app.extensions:
        app.extensions[EXTENSION].stop()


class _GunicornServer(BaseApplication):  # type: ignore[misc]
    """gunicorn with these settings instead of its command line."""

    def __init__(self, settings: Settings, start_token: str, options: dict[str, Any]) -> None:
        self._settings = settings
        self._start_token = start_token
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app(self._settings, start_token=self._start_token)


def way_in(settings: Settings, start_token: str) -> str:
    """The query string that gives access to the dashboard: the start token, or "" with another sign-in or without."""
    needs_none = settings.users or settings.oidc or settings.proxy_sign_in or settings.auth == "none"
    return "" if needs_none else f"?token={start_token}"


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    threads: int = 16,
    announce: bool = True,
    start_token: str | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM; the exit status. Port 0 means any free port, which the announcement names.

    `start_token` gives access while the settings configure no users; a random one by default. Raises
    ConfigurationError when the port is in use and for an invalid number of threads.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise ConfigurationError(f"--threads: expected a number from 1 to {MAX_THREADS}")
    if settings.proxy_sign_in is not None and set(settings.proxy_sign_in.peers) == {UNIX_SOCKET}:
        raise ConfigurationError(
            "proxy_sign_in: peers: serve listens on an address, so its proxy has one",
            hint="Run gunicorn --bind unix:/path for a unix socket; see docs/proxies.md.",
        )
    start_token = start_token or secrets.token_urlsafe(32)
    create_app(settings, start_token=start_token)  # reports a wrong setting once, and not in each worker
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if announce:
        watched = ", ".join(
            f"{source.name} ({redact_url(source.redis_url)})" for source in settings.effective_sources()
        )
        url = f"http://{shown}:{port}{settings.root_path or ''}/"
        if settings.proxy_sign_in is not None:
            say(f"Queuedeck watches {watched}\nListening at: {url}\nOpen the address of the proxy where users sign in.")
        else:
            say(f"Queuedeck watches {watched}\nOpen {url}{way_in(settings, start_token)}")
    if settings.auth == "none":
        log.warning("sign-in is disabled (auth = none): anyone on this machine has full access")
    options = {
        "bind": f"fd://{listener.detach()}",  # gunicorn closes it
        "workers": 1,
        "worker_class": worker_class,
        "worker_connections": worker_connections,
        "threads": threads,
        "keepalive": 30,
        "graceful_timeout": 5,
        "loglevel": "warning",
        "control_socket_disable": True,
        "forwarder_headers": forwarder_headers,
        "secure_scheme_headers": secure_scheme_headers,
        "post_worker_init": post_worker_init,
        "worker_exit": worker_exit,
    }
    try:
        _GunicornServer(settings, start_token, options).run()
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound before the address is announced, so that no other process can take the port first."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError, TypeError) as exc:  # the last two: an invalid host name
        listener.close()
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(
            f"cannot listen on {ascii(host)[1:-1]}:{port}: {reason}", hint="Choose another --port."
        ) from None
    return listener
