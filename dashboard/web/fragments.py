"""Polled fragments: rendered once for all viewers, answered with 304 while unchanged.

The only module that handles htmx's headers: `htmx-flask` recognizes requests of htmx, and headers that it does not
support yet (HX-PTag of htmx 4) are read here.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Response, render_template, request

from ..errors import QueuedeckError
from .context import app_context, app_services
from .views import firing_banner

PTAG = "HX-PTag"
SAMPLED_AT = "Queuedeck-Sampled-At"
AGE = "Queuedeck-Age"
GONE = "Queuedeck-Gone"
MAX_MESSAGE = 400
# Cached fragments: enough for 20 viewers with 10 filters each; a page of 50 queues is about 40 kB.
MAX_FRAGMENTS = 256
GZIP_LEVEL = 4
GZIP_FROM_BYTES = 1024


@dataclass(frozen=True, slots=True)
class _Rendered:
    version: str
    tag: str
    body: bytes
    zipped: bytes


class FragmentCache:
    """A cache of rendered fragments by (template, key), least recently used first out. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Rendered] = OrderedDict()
        self._busy: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, version: str, render: Callable[[], str]) -> _Rendered:
        """The fragment of that version; one thread renders it while others wait for it."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.version == version:
                self._entries.move_to_end(key)
                return entry
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None and entry.version == version:
                    return entry
            entry = _build_rendered(version, render())
            with self._lock:
                self._entries[key] = entry
                self._entries.move_to_end(key)
                self._busy.pop(key, None)
                while len(self._entries) > MAX_FRAGMENTS:
                    self._entries.popitem(last=False)
            return entry


_fragments = FragmentCache()


def is_htmx_request() -> bool:
    """Whether htmx requests a fragment, rather than the browser a page; a page restored from the history is a page."""
    htmx: Any = getattr(request, "htmx", None)
    return bool(htmx) and not htmx.boosted and not htmx.history_restore_request


def render_fragment(
    template: str, key: tuple[Hashable, ...], context: Callable[[], dict[str, Any]], version: str
) -> Response:
    """A fragment that is the same for all viewers: rendered once per (template, key, version).

    The template must depend only on `key` and on what `version` identifies. Returns 304 with an empty body when the
    viewer already has it.
    """
    # The mount point is part of every link in a fragment, and one process can serve several apps.
    whole_key = (id(app_context()), template, request.script_root, *key)
    return _respond(_fragments.get(whole_key, version, lambda: render_template(template, **context())))


def render_live(template: str, context: dict[str, Any]) -> Response:
    """A fragment rendered for this request only, tagged by its content."""
    return _respond(_build_rendered("", render_template(template, **context)))


def gone_response(message: str) -> Response:
    """The response to a poll for something that no longer exists, with the message in a header.

    Not a 404: a polling page can outlive its job, so this is not an error. The page keeps its content, shows the
    message, and polls less often, since an undo can restore the job.
    """
    response = Response(status=204)
    response.headers[GONE] = quote(message[:MAX_MESSAGE], safe=" ,.:;()'")
    with contextlib.suppress(QueuedeckError):
        stamp_headers(response)
    return response


def _build_rendered(version: str, html: str) -> _Rendered:
    body = html.encode("utf-8", "backslashreplace")
    tag = hashlib.blake2b(body, digest_size=9).hexdigest()
    return _Rendered(version, tag, body, gzip.compress(body, GZIP_LEVEL, mtime=0))


def _respond(entry: _Rendered) -> Response:
    if request.headers.get(PTAG) == entry.tag:
        response = Response(status=304)
    elif "gzip" in request.headers.get("Accept-Encoding", "") and len(entry.body) >= GZIP_FROM_BYTES:
        response = Response(entry.zipped, mimetype="text/html")
        response.headers["Content-Encoding"] = "gzip"
    else:
        response = Response(entry.body, mimetype="text/html")
    response.headers[PTAG] = entry.tag
    response.headers["Vary"] = "Accept-Encoding, HX-Request"
    stamp_headers(response)
    return response


def stamp_headers(response: Response) -> None:
    """Add headers with the age of the figures and the firing alerts, so that a page stays current even when its content
    does not change."""
    found = app_context().caches.firing.current()
    if found is not None:
        response.headers[firing_banner.HEADER] = found.header
    current = app_services().snapshots.current()
    if current.snapshot is not None and current.age_s is not None:
        response.headers[SAMPLED_AT] = f"{current.snapshot.sampled_at:.3f}"
        response.headers[AGE] = f"{current.age_s:.2f}"
