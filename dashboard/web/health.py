"""Probes for whoever watches this process; they tell ok or not and nothing else, and need no sign-in."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from dashboard.web.deck import deck

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """200: this process answers."""
    return jsonify(status="ok")


@bp.get("/healthz/checker")
def checker() -> ResponseReturnValue:
    """200 while somebody watches the rules, 503 when nobody finished a full look for three intervals."""
    ok = deck().desk.health().ok
    return jsonify(status="ok" if ok else "not ok"), 200 if ok else 503


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 when every source answers and the figures are fresh, else 503."""
    reading = deck().reading()
    snapshot = reading.snapshot
    ready = snapshot is not None and not reading.stale and all(source.reachable for source in snapshot.sources)
    return jsonify(status="ok" if ready else "not ready"), 200 if ready else 503
