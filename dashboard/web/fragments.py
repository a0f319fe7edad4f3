"""Polled fragments: rendered once for all viewers, answered with 304 while unchanged.

The only module that handles htmx's headers: `htmx-flask` recognizes requests of htmx, and headers that it does not
support yet (HX-PTag of htmx 4) are read here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import quote

from flask import Response, g, render_template, request

from ..errors import BackendUnavailable, QueuedeckError
from ..sampling.snapshot_reader import CurrentSnapshot
from .context import app_context, app_services
from .rendered_fragment import GZIP_FROM_BYTES, RenderedFragment, encode_fragment
from .views import firing_banner
from .views.problems import outage
from .views.problems.outage import Outage

PTAG = "HX-PTag"
SAMPLED_AT = "Queuedeck-Sampled-At"
AGE = "Queuedeck-Age"
GONE = "Queuedeck-Gone"
MAX_MESSAGE = 400


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
    # The mount point is part of every link in a fragment.
    whole_key = (template, request.script_root, *key)

    def render() -> RenderedFragment:
        return encode_fragment(render_template(template, **context()))

    return _respond(app_context().caches.fragments.get(whole_key, render, version))


def render_live(template: str, context: dict[str, Any]) -> Response:
    """A fragment rendered for this request only, tagged by its content."""
    return _respond(encode_fragment(render_template(template, **context)))


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


def _respond(entry: RenderedFragment) -> Response:
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


def current_outage(current: CurrentSnapshot) -> Outage | None:
    """The outage of a source that pages show; None while all can be read."""
    if current.snapshot is None or current.age_s is None:
        return None
    return outage.find_outage(current.snapshot, current.snapshot.sampled_at + current.age_s)


def stamp_outage(response: Response, problem: BackendUnavailable) -> None:
    """Add the header that says which Redis does not respond, so that the page does not blame Queuedeck. Strangers get
    none."""
    if "identity" not in g:
        return
    try:
        found = current_outage(app_services().snapshots.current())
    except QueuedeckError:
        found = None
    response.headers[outage.HEADER] = (found or outage.outage_of_error(problem)).header


def stamp_headers(response: Response) -> None:
    """Add headers with the age of the figures, the firing alerts and an outage, so that a page stays current even when
    its content does not change."""
    found = app_context().caches.firing_summary()
    if found is not None:
        response.headers[firing_banner.HEADER] = found.header
    current = app_services().snapshots.current()
    if (down := current_outage(current)) is not None:
        response.headers[outage.HEADER] = down.header
    if current.snapshot is not None and current.age_s is not None:
        response.headers[SAMPLED_AT] = f"{current.snapshot.sampled_at:.3f}"
        response.headers[AGE] = f"{current.age_s:.2f}"
