"""The path under which the dashboard is reached on a host that it shares with other applications.

A proxy either passes that path on (the setting `root_path`), or removes it and sends it in X-Forwarded-Prefix. The two
cannot be distinguished by a path: the dashboard has pages of its own under /queues.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, request

from ...errors import NotFound

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# For load balancers and Prometheus, which connect directly: also served without the path.
DIRECT_PATHS = frozenset({"/healthz", "/healthz/checker", "/readyz", "/metrics"})
_OUTSIDE = "queuedeck.outside_root_path"


class RootPath:
    """WSGI middleware: what follows `root_path` becomes PATH_INFO. Any other path is answered with 404."""

    def __init__(self, app: WSGIApplication, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path in DIRECT_PATHS:
            return self._app(environ, start_response)
        if path == self._root_path:
            return redirect_into(path, environ, start_response)
        inner = dict(environ)
        script = environ.get("SCRIPT_NAME", "")
        # Some proxies send X-Forwarded-Prefix although they pass the path on.
        inner["SCRIPT_NAME"] = script if script.endswith(self._root_path) else script + self._root_path
        if path.startswith(f"{self._root_path}/"):
            inner["PATH_INFO"] = path.removeprefix(self._root_path)
        else:
            inner[_OUTSIDE] = self._root_path  # links on the page that says so have to work
        return self._app(inner, start_response)


def redirect_into(path: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Redirect from `path` to the overview, which has a slash at its end. Relative: a proxy may have removed a part of
    the path that the browser has."""
    query = environ.get("QUERY_STRING", "")
    location = f"{path.rpartition('/')[2]}/" + (f"?{query}" if query else "")
    start_response("308 Permanent Redirect", [("Location", location), ("Content-Length", "0")])
    return [b""]


def refuse_other_paths(app: Flask) -> None:
    """Respond to requests outside of the root path with 404 and what to change, also to users who are not signed in."""

    @app.before_request
    def refuse_outside() -> None:
        root_path = request.environ.get(_OUTSIDE)
        if root_path is not None:
            raise NotFound(
                f"This dashboard is under {root_path}/ (root_path).",
                hint="Let the proxy pass the path on unchanged. If it removes it, let it send X-Forwarded-Prefix, and "
                "leave root_path out.",
            )
