"""A Flask application as our users have one, with the dashboard under a path of it."""

from __future__ import annotations

import os

from flask import Flask

from dashboard import mount

app = Flask(__name__)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """What the test waits for."""
    return {"status": "ok"}


@app.get("/")
def home() -> str:
    """A page of the host."""
    return '<title>Shop</title><link rel="icon" href="data:,"><a href="/ops/queues/">Queues</a>'


app.wsgi_app = mount(app.wsgi_app, "/ops/queues", redis_url=os.environ["HOST_REDIS_URL"])  # type: ignore[method-assign]
