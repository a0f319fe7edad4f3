"""Alerts: what fires now and who sees to it, the rules in force, silences, and what was sent with which answer."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from dashboard.access import Role
from dashboard.acts import audit
from dashboard.alerts.desk import Alert
from dashboard.alerts.metrics import METRICS
from dashboard.alerts.preview import Preview
from dashboard.alerts.rulebook import Entry
from dashboard.clock import instant, iso
from dashboard.errors import Conflict, Forbidden, Unsupported
from dashboard.sources import metered
from dashboard.web import htmx, page
from dashboard.web.deck import deck
from dashboard.web.security import actor, may

bp = Blueprint("alerting", __name__)
edit_bp = Blueprint("alerting_edit", __name__)
api_bp = Blueprint("api_alerting", __name__, url_prefix="/api/v1")

NOW = "alerts/_now.html"
SHOWN = 50
# An operator may be silent for a day; longer silences are an admin's.
OPERATOR_SILENCE_S = 86_400.0
LONGEST_SILENCE_S = 30 * 86_400.0


@bp.get("/alerts")
def index() -> str:
    """The page."""
    variables = _context()
    return render_template("alerts/index.html", **page.shell(deck().reading(), variables["price"]) | variables)


@bp.get("/alerts/_now")
def fragment() -> Response:
    """The part of it that polls."""
    return htmx.live(NOW, _context())


@bp.get("/alerts/_firing")
def firing() -> Response:
    """What fires, in a header: for tabs that nobody looks at."""
    response = Response(mimetype="text/plain")
    htmx.stamp(response)
    return response


def _context() -> dict[str, Any]:
    desk = deck().desk
    with metered() as meter:
        board, health = desk.now(), desk.health()
        variables = {
            "board": board,
            "health": health,
            "silences": desk.silences(),
            "deliveries": desk.deliveries(SHOWN),
            "past": desk.history(SHOWN),
            "channels": desk.channels(),
        }
    price = page.price(meter.commands, meter.round_trips, meter.seconds * 1000)
    return variables | {"price": price, "titles": deck().backend_titles}


@edit_bp.get("/alerts/<segment:fp>/ack")
def ack_form(fp: str) -> str:
    """The page to which a message leads: acknowledging is a button on it, since following a link changes nothing."""
    alert = deck().desk.alert(fp)
    return render_template(
        "alerts/ack.html",
        **page.shell(deck().reading(), ""),
        alert=alert,
        episode=request.args.get("episode") or alert.state.episode,
    )


@edit_bp.post("/alerts/<segment:fp>/ack")
def acknowledge(fp: str) -> ResponseReturnValue:
    """Note that somebody sees to it: 303 to the alerts."""
    comment = request.form.get("comment", "")[:300]
    deck().desk.acknowledge(fp, episode=request.form.get("episode", ""), by=actor().name, comment=comment)
    _record("acknowledge", [fp], comment)
    return redirect(url_for("alerting.index"), code=303)


@edit_bp.get("/silences/new")
def silence_form() -> str:
    """The form of a silence, filled in by the address."""
    fields = {name: request.args.get(name, "*")[:200] for name in ("rule", "source", "backend", "queue")}
    return render_template("alerts/silence.html", **page.shell(deck().reading(), ""), fields=fields)


@edit_bp.post("/silences")
def silence() -> ResponseReturnValue:
    """Keep quiet about what the globs match: 303 to the alerts."""
    form = request.form
    try:
        for_s = float(form.get("hours", "")) * 3600
    except ValueError:
        raise Unsupported("For how long? Write hours, as 2 or 0.5.") from None
    longest = LONGEST_SILENCE_S if may(Role.ADMIN) else OPERATOR_SILENCE_S
    if not 0 < for_s <= longest:
        if 0 < for_s <= LONGEST_SILENCE_S:
            raise Forbidden("Silences of more than a day need the role admin.")
        raise Unsupported("Expected hours above 0, and 30 days at most.")
    globs = {name: form.get(name, "").strip()[:64] or "*" for name in ("rule", "source", "backend", "queue")}
    if not any(set(glob) - set("*") for glob in globs.values()) and form.get("everything") != "1":
        raise Conflict("This would silence everything. Name a rule, source, library or queue.")
    comment = form.get("comment", "")[:300]
    made = deck().desk.silence(
        for_s=for_s,
        by=actor().name,
        comment=comment,
        rule=globs["rule"],
        source=globs["source"],
        backend=globs["backend"],
        queue=globs["queue"],
    )
    _record("silence", [made.id], comment)
    return redirect(url_for("alerting.index"), code=303)


@edit_bp.post("/silences/<segment:silence_id>/expire")
def expire(silence_id: str) -> ResponseReturnValue:
    """End a silence now."""
    deck().desk.expire_silence(silence_id)
    _record("end silence", [silence_id], None)
    return redirect(url_for("alerting.index"), code=303)


@edit_bp.post("/deliveries/again")
def again() -> ResponseReturnValue:
    """Send a message that was given up once more."""
    message_id = request.form.get("id", "")[:300]
    deck().desk.send_again(message_id)
    _record("send again", [message_id], None)
    return redirect(url_for("alerting.index"), code=303)


@edit_bp.post("/channels/<segment:channel>/test")
def test_fire(channel: str) -> ResponseReturnValue:
    """Send a test message through a channel, for admins."""
    if not may(Role.ADMIN):
        raise Forbidden("Testing a channel needs the role admin.")
    deck().desk.test_fire(channel, by=actor().name)
    _record("test channel", [channel], None)
    return redirect(url_for("alerting.index") + "#deliveries", code=303)


def _record(action: str, ids: list[str], reason: str | None) -> None:
    deck().forget_firing()
    deck().actions.record.done(audit.event(actor(), action, ids=ids, reason=reason or None))


@api_bp.get("/alerts")
def alerts() -> Response:
    """What fires now, worst first."""
    board = deck().desk.now()
    return jsonify(alerts=[shown(alert) for alert in board.firing], pending=[shown(alert) for alert in board.pending])


@api_bp.get("/rules")
def rules() -> Response:
    """The rules in force, with where each comes from."""
    board = deck().rule_board()
    return jsonify(rules=[told(entry, board.previews.get(entry.rule.id)) for entry in board.entries])


@api_bp.get("/rules/<segment:rule_id>")
def rule(rule_id: str) -> Response:
    """One rule, with what it sees now."""
    entry = deck().desk.rule(rule_id)
    return jsonify(told(entry, deck().rule_board().previews.get(entry.rule.id)))


def told(entry: Entry, seen: Preview | None) -> dict[str, Any]:
    """One rule as the API tells it. `now` is of the newest sample, None before there is one."""
    rule = entry.rule
    fields: dict[str, Any] = msgspec.to_builtins(rule)
    return fields | {
        "name": rule.title,
        "unit": METRICS[rule.metric].unit,
        "origin": str(entry.origin),
        "ships": entry.shipped,
        "edited_by": entry.edited_by,
        "edited_at": iso(instant(entry.edited_at)),
        "now": _now(seen) if seen else None,
    }


def _now(seen: Preview) -> dict[str, Any]:
    return {
        "judged": seen.judged,
        "warnings": seen.warnings,
        "criticals": seen.criticals,
        "looked_at": seen.looked_at,
        "unknown": seen.unknown,
        "beyond": [
            {"labels": spot.labels.items(), "value": spot.value, "severity": spot.severity} for spot in seen.beyond
        ],
    }


@api_bp.get("/silences")
def silences() -> Response:
    """The silences that are not over."""
    return jsonify(
        silences=[
            {
                "id": each.id,
                "until": iso(instant(each.until)),
                "by": each.by,
                "comment": each.comment,
                **{name: getattr(each, name) for name in ("rule", "source", "backend", "queue")},
            }
            for each in deck().desk.silences()
        ]
    )


@api_bp.get("/deliveries")
def deliveries() -> Response:
    """Attempts to deliver, the newest first."""
    return jsonify(
        deliveries=[
            {
                **{name: getattr(each, name) for name in ("id", "channel", "kind", "rule_id", "severity", "outcome")},
                **{name: getattr(each, name) for name in ("status", "duration_s", "attempt")},
                "at": iso(instant(each.at)),
            }
            for each in deck().desk.deliveries()
        ]
    )


def shown(alert: Alert) -> dict[str, Any]:
    """One alert as the API tells it."""
    state = alert.state
    return {
        "fingerprint": state.fp,
        "rule": state.rule_id,
        "name": state.rule_name,
        "metric": state.metric,
        "severity": str(state.severity),
        "state": str(state.phase),
        "labels": state.labels.items(),
        "value": state.value,
        "threshold": state.threshold,
        "since": iso(instant(state.started_at)),
        "episode": state.episode or None,
        "acknowledged_by": alert.ack.by if alert.ack else None,
        "silenced_until": iso(instant(alert.silence.until)) if alert.silence else None,
    }
