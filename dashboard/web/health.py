"""Health checks of this process. They report only ok or not ok, and need no sign-in."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from .context import app_context, app_services

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """200: this process responds."""
    return jsonify(status="ok")


@bp.get("/healthz/checker")
def checker() -> ResponseReturnValue:
    """200 while rules are evaluated, 503 when no checker has evaluated the rules for three intervals."""
    ok = app_context().caches.checker_health().ok
    return jsonify(status="ok" if ok else "not ok"), 200 if ok else 503


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 when pages can be shown: there is a sample, and Queuedeck's own data can be read; else 503.

    Stays 200 while a watched Redis is down: the page that says so must remain reachable.
    """
    services = app_services()
    current = services.snapshots.current()
    own = services.store.source
    down = {source.name for source in current.snapshot.sources if not source.reachable} if current.snapshot else set()
    ready = current.snapshot is not None and current.error is None and own.name not in down
    return jsonify(status="ok" if ready else "not ready"), 200 if ready else 503
