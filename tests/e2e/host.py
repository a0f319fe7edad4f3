"""A Flask application as our users have one, with the dashboard under a path of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response

from dashboard import Identity, Role, mount

app = Flask(__name__)


def identify(environ: Mapping[str, Any]) -> Identity | None:
    """The identity of a user whom the shop knows."""
    return Identity(name="ann", role=Role.OPERATOR) if "shop=ann" in environ.get("HTTP_COOKIE", "") else None


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """What the test waits for."""
    return {"status": "ok"}


@app.get("/")
def home() -> Response:
    """A page of the host, which signs everybody in."""
    page = Response('<title>Shop</title><link rel="icon" href="data:,"><a href="/ops/queues/">Queues</a>')
    page.set_cookie("shop", "ann")
    return page


app.wsgi_app = mount(  # type: ignore[method-assign]
    app.wsgi_app, "/ops/queues", redis_url=os.environ["HOST_REDIS_URL"], identify=identify, auth="auto"
)
