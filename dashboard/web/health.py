"""Probes for whoever watches this process; they tell ok or not and nothing else, and need no sign-in."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from .context import app_context

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """200: this process answers."""
    return jsonify(status="ok")


@bp.get("/healthz/checker")
def checker() -> ResponseReturnValue:
    """200 while somebody watches the rules, 503 when nobody finished a full look for three intervals."""
    ok = app_context().checker_health().ok
    return jsonify(status="ok" if ok else "not ok"), 200 if ok else 503


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 when pages can be shown: there is a sample, and Queuedeck's own data can be read; else 503.

    A watched server that is down makes nothing unready: the page that says so must be reachable.
    """
    here = app_context()
    reading = here.current_snapshot()
    own = here.own_store.source
    down = {source.name for source in reading.snapshot.sources if not source.reachable} if reading.snapshot else set()
    ready = reading.snapshot is not None and reading.error is None and own.name not in down
    return jsonify(status="ok" if ready else "not ready"), 200 if ready else 503
