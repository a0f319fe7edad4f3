"""Queue names and job ids in URLs: any bytes, slashes included, each exactly one path segment.

WSGI passes a path that is already decoded, so `a%2Fb` and `a/b` look alike and bytes that are not UTF-8 are lost.
Servers provide the path as it was sent in RAW_URI (gunicorn, Werkzeug) or REQUEST_URI (uWSGI, mod_wsgi). `EncodedPath`
restores that encoded form in PATH_INFO, and the converter `segment` decodes one segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlsplit

from werkzeug.routing import BaseConverter

from ..sources.source import raw_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Characters that RFC 3986 allows unencoded in a path segment, beside letters, digits and -._~
_SAFE = "!$&'()*+,;=:@"


def quote_segment(value: str) -> str:
    """`value` as one path segment; surrogate escapes become the bytes that they represent."""
    return quote(raw_bytes(value), safe=_SAFE)


def read_segment(value: str) -> str:
    """The inverse of `quote_segment`, for the value of a form."""
    return unquote_to_bytes(value).decode("utf-8", "surrogateescape")


class SegmentConverter(BaseConverter):
    """One path segment of any bytes, as text with surrogate escapes."""

    regex = "[^/]+"
    part_isolating = True

    def to_python(self, value: str) -> str:
        """Decode the segment."""
        return read_segment(value)

    def to_url(self, value: str) -> str:
        """Encode `value` as a segment."""
        return quote_segment(value)


class EncodedPath:
    """WSGI middleware: PATH_INFO percent-encoded, as it was sent where the server provides that, else re-encoded."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve the request with an encoded path."""
        environ = dict(environ)
        environ["PATH_INFO"] = encoded_path(environ)
        return self._app(environ, start_response)


def encoded_path(environ: WSGIEnvironment) -> str:
    """The path below the mount point, percent-encoded ASCII."""
    script = environ.get("SCRIPT_NAME", "").encode("latin-1")
    path = environ.get("PATH_INFO", "").encode("latin-1")
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    sent = _path_of(raw)
    # Used only if it matches the decoded path: a rewriting middleware changes only one of the two.
    if sent is not None and (decoded := unquote_to_bytes(sent)).endswith(path):
        prefix = decoded.removesuffix(path) if path else decoded
        # A proxy may have removed the beginning of the mount point, or all of it.
        if script.endswith(prefix) and (rest := _without_prefix(sent, prefix)) is not None:
            return rest
    return quote(path, safe="/" + _SAFE)


def _path_of(raw: str) -> str | None:
    try:
        raw.encode("ascii")
        path = raw if raw.startswith("/") else urlsplit(raw).path
    except ValueError:
        return None
    return path.split("?", 1)[0].split("#", 1)[0] or None


def _without_prefix(sent: str, script: bytes) -> str | None:
    """What follows the part of `sent` that decodes to `script`; None if that part does not end at a segment."""
    if not script:
        return sent
    for end in range(len(sent) + 1):
        if (end == len(sent) or sent[end] == "/") and unquote_to_bytes(sent[:end]) == script:
            return sent[end:]
    return None
