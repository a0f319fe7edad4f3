"""The alerts of the JSON API: firing alerts, silences, and deliveries of notifications."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify

from ...alerts.management.alert_reader import Alert, AlertList
from ...clock import instant, iso
from ...errors import QueuedeckError
from ..context import app_services

bp = Blueprint("api_alerting", __name__, url_prefix="/api/v1")


@bp.get("/alerts")
def alerts() -> Response:
    """List firing alerts, worst first.

    `watched` is true while rules are evaluated. Otherwise the list can be empty or out of date, and `problem` gives the
    reason where it is known.
    """
    alert_service = app_services().alert_service
    alert_list, health = alert_service.alerts.list_alerts(), alert_service.checker.read_health()
    problem = None if health.ok else app_services().checker_problem
    return jsonify(
        alerts=json_firing(alert_list),
        pending=[_json_alert(alert) for alert in alert_list.pending],
        watched=health.ok,
        problem=join_hint(problem),
    )


@bp.get("/silences")
def silences() -> Response:
    """List silences that have not ended."""
    return jsonify(
        silences=[
            {
                "id": each.id,
                "until": iso(instant(each.until)),
                "by": each.by,
                "comment": each.comment,
                "starts_at": iso(instant(each.starts_at)),
                "severity": each.severity,
                "weekly": msgspec.to_builtins(each.weekly),
                **{name: getattr(each, name) for name in ("rule", "source", "backend", "queue")},
            }
            for each in app_services().alert_service.silences.list_silences()
        ],
        problem=join_hint(app_services().alert_service.ownership.conflict),
    )


@bp.get("/deliveries")
def deliveries() -> Response:
    """List delivery attempts of notifications, newest first."""
    return jsonify(
        deliveries=[
            {
                **{name: getattr(each, name) for name in ("id", "channel", "kind", "rule_id", "severity", "outcome")},
                **{name: getattr(each, name) for name in ("status", "duration_s", "attempt")},
                "at": iso(instant(each.at)),
            }
            for each in app_services().alert_service.notifications.list_deliveries()
        ],
        problem=join_hint(app_services().alert_service.ownership.conflict),
    )


def json_firing(alert_list: AlertList) -> list[dict[str, Any]]:
    """Firing alerts as the API returns them, worst first. `muted`: a warning without notifications, since the critical
    alert of the same rule and place is firing too."""
    notified = {alert.state.fp for alert in alert_list.incidents}
    return [_json_alert(alert) | {"muted": alert.state.fp not in notified} for alert in alert_list.firing]


def _json_alert(alert: Alert) -> dict[str, Any]:
    """An alert as the API returns it. `value` None: the value has been unknown for `unknown_s` and was `last_value`
    before; the alert keeps firing until the value is known."""
    state = alert.state
    return {
        "fingerprint": state.fp,
        "rule": state.rule_id,
        "name": state.rule_name,
        "metric": state.metric,
        "severity": str(state.severity),
        "state": str(state.phase),
        "labels": state.labels.as_dict(),
        "value": state.value_now,
        "last_value": state.value,
        "unknown_s": round(state.unknown_s, 1),
        "threshold": state.threshold,
        "since": iso(instant(state.started_at)),
        "episode": state.episode or None,
        "acknowledged_by": alert.ack.by if alert.ack else None,
        "silenced_until": iso(instant(alert.silenced_until)) if alert.silenced_until else None,
    }


def join_hint(problem: QueuedeckError | None) -> str | None:
    """The error and its hint in one line."""
    return f"{problem.message.rstrip('.')}. {problem.hint or ''}".rstrip() if problem else None
