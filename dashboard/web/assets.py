"""CSS, JavaScript and images: few and small, held in memory, compressed once, cached permanently by browsers.

Sheets and scripts are single files in `static/`. They are joined into the few files of BUNDLES when the app is created,
so that a page needs a handful of requests. There is no build step: a restart shows a change.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, abort, request

_ZIPPED = ("text/", "application/javascript", "application/json", "image/svg+xml")
ONE_YEAR = "public, max-age=31536000, immutable"
# The order of the layers comes first. Within a layer, later sheets override earlier ones.
_FIRST_SHEETS = ("css/layers.css", "css/reset.css", "css/tokens.css", "css/base.css")
_LIVE_SCRIPTS = ("js/morph.js", "js/times.js", "js/alerts.js", "js/live.js")
# Files that a browser can request, and what each is joined from, in this order. A source is not served on its own.
BUNDLES: Mapping[str, tuple[str, ...]] = {
    "queuedeck.css": (
        *_FIRST_SHEETS,
        "css/layout.css",
        "css/bar.css",
        "css/moment.css",
        "css/table.css",
        "css/queues.css",
        "css/overview.css",
        "css/jobs.css",
        "css/tree.css",
        "css/lists.css",
        "css/dead_letters.css",
        "css/actions.css",
        "css/alerts.css",
        "css/charts.css",
        "css/chart_parts.css",
        "css/incidents.css",
        "css/redis.css",
        "css/slos.css",
        "css/utilities.css",
        "css/phone.css",
    ),
    "wall.css": (*_FIRST_SHEETS, "css/utilities.css", "css/wall.css"),
    # Copied into the file of an incident report.
    "report.css": ("css/layers.css", "css/tokens.css", "css/report.css"),
    "signin.css": (*_FIRST_SHEETS, "css/actions.css"),
    # On its own because updates of Queuedeck rarely change it: browsers keep it.
    "htmx.js": ("vendor/htmx.min.js", "vendor/hx-csp.min.js", "vendor/hx-ptag.min.js"),
    "queuedeck.js": (
        *_LIVE_SCRIPTS,
        "js/nav.js",
        "js/keys.js",
        "js/moment.js",
        "js/copy.js",
        "js/confirm.js",
        "js/selection.js",
        "js/complete.js",
        "js/palette.js",
        "js/chart_parts.js",
    ),
    # Only for pages with charts.
    "charts.js": (
        "vendor/uplot.min.js",
        "js/chart_format.js",
        "js/chart_legend.js",
        "js/chart_data.js",
        "js/marks.js",
        "js/charts.js",
    ),
    "wall.js": (*_LIVE_SCRIPTS, "js/wall.js"),
}
# As with separate files, a script that throws does not stop those after it, and its error is reported.
_GUARDED_SCRIPT = b"try {\n%b\n} catch (error) {\n  reportError(error);\n}"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to send."""

    body: bytes
    mimetype: str
    version: str

    @property
    def zipped(self) -> bytes | None:
        """The body as gzip; None where compression would not help."""
        return _compress(self.body) if self.mimetype.startswith(_ZIPPED) else None


@dataclass(frozen=True, slots=True)
class InlineSheet:
    """One of our sheets as an element, for a file that must load nothing."""

    text: str

    def __html__(self) -> str:
        return f"<style>\n{self.text}</style>"


def install(app: Flask, folder: Path) -> None:
    """Serve the files of `load_assets` under /static and add each one's version to `url_for("static", …)`."""
    assets = load_assets(folder)

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, str]) -> None:
        if endpoint == "static" and values.get("filename") in assets:
            values["v"] = assets[values["filename"]].version

    app.jinja_env.globals["inline_sheet"] = lambda filename: InlineSheet(assets[filename].body.decode())

    def static(filename: str) -> Response:
        asset = assets.get(filename)
        if asset is None:
            abort(404)
        zipped = asset.zipped if "gzip" in request.headers.get("Accept-Encoding", "") else None
        response = Response(asset.body if zipped is None else zipped, mimetype=asset.mimetype)
        if zipped is not None:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        # A link with another version comes from a page rendered before an update: serve it, but do not cache it.
        response.headers["Cache-Control"] = ONE_YEAR if request.args.get("v") == asset.version else "no-cache"
        return response

    app.add_url_rule("/static/<path:filename>", "static", static)


def load_assets(folder: Path) -> dict[str, Asset]:
    """What browsers can request, by name: the bundles, and each file of `folder` that is in none of them.

    Raises KeyError if a source of a bundle is missing.
    """
    sources = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    bundles = {name: _join({part: sources[part] for part in parts}) for name, parts in BUNDLES.items()}
    joined = {part for parts in BUNDLES.values() for part in parts}
    single = {name: body for name, body in sources.items() if name not in joined}
    return {name: _build_asset(name, body) for name, body in (bundles | single).items()}


def _join(sources: Mapping[str, bytes]) -> bytes:
    """The sources one after the other, each below its name: to it leads the line number of an error."""
    return b"\n".join(
        b"/* %b */\n%b\n" % (name.encode(), _GUARDED_SCRIPT % body if name.endswith(".js") else body)
        for name, body in sources.items()
    )


def _build_asset(name: str, body: bytes) -> Asset:
    mimetype = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Asset(body, mimetype, hashlib.blake2b(body, digest_size=6).hexdigest())


@functools.cache
def _compress(body: bytes) -> bytes:
    """Compressed when first requested: compressing all of them was most of the time that creating an app took."""
    return gzip.compress(body, 9, mtime=0)
