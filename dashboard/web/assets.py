"""CSS, JavaScript and images: few and small, held in memory, compressed once, cached permanently by browsers."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, abort, request

_ZIPPED = ("text/", "application/javascript", "application/json", "image/svg+xml")
ONE_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to send."""

    body: bytes
    zipped: bytes | None  # None where compression would not help
    mimetype: str
    version: str


def install(app: Flask, folder: Path) -> None:
    """Serve `folder` under /static and add each file's version to `url_for("static", …)`."""
    assets = {
        path.relative_to(folder).as_posix(): _load_asset(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, str]) -> None:
        if endpoint == "static" and values.get("filename") in assets:
            values["v"] = assets[values["filename"]].version

    def static(filename: str) -> Response:
        asset = assets.get(filename)
        if asset is None:
            abort(404)
        zipped = asset.zipped is not None and "gzip" in request.headers.get("Accept-Encoding", "")
        response = Response(asset.zipped if zipped else asset.body, mimetype=asset.mimetype)
        if zipped:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        # A link with another version comes from a page rendered before an update: serve it, but do not cache it.
        response.headers["Cache-Control"] = ONE_YEAR if request.args.get("v") == asset.version else "no-cache"
        return response

    app.add_url_rule("/static/<path:filename>", "static", static)


def _load_asset(path: Path) -> Asset:
    body = path.read_bytes()
    mimetype = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    zipped = gzip.compress(body, 9, mtime=0) if mimetype.startswith(_ZIPPED) else None
    return Asset(body, zipped, mimetype, hashlib.blake2b(body, digest_size=6).hexdigest())
