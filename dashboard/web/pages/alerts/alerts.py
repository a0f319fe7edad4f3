"""Alerts: firing alerts and their acknowledgements, the rules in force, silences, and deliveries with their results."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....actions import audit_log
from ....alerts.evaluation.preview import RulePreview, preview_silence
from ....alerts.rules.metrics import METRICS
from ....alerts.rules.ruleset import RuleInForce
from ....alerts.service import Alert, AlertList
from ....alerts.silences import Silence
from ....auth import Role
from ....clock import instant, iso
from ....errors import ConfigurationError, Forbidden, QueuedeckError, Unsupported
from ....sources.source import measure_cost
from ... import fragments
from ...access.security import current_actor, has_role
from ...context import app_context
from ...forms.request_input import form_fields, form_flag, form_word
from ...forms.silence_form import DAYS, FIELDS, SilenceForm
from ...urls import read_segment
from .. import layout

bp = Blueprint("alerting", __name__)
edit_bp = Blueprint("alerting_edit", __name__)
api_bp = Blueprint("api_alerting", __name__, url_prefix="/api/v1")

ALERTS = "alerts/_alerts.html"
SHOWN = 20


@edit_bp.before_request
def refuse_elsewhere() -> None:
    """Raise Conflict while a dashboard with other settings evaluates the alerts."""
    if (elsewhere := app_context().alert_service.ownership_conflict) is not None:
        raise elsewhere


@bp.get("/alerts")
def index() -> str:
    """The Alerts page."""
    variables = _context()
    return render_template(
        "alerts/index.html", **layout.page_context(app_context().current_snapshot(), variables["price"]) | variables
    )


@bp.get("/alerts/_now")
def fragment() -> Response:
    """The polled part of the page."""
    return fragments.render_live(ALERTS, _context())


@bp.get("/alerts/_firing")
def firing() -> Response:
    """The firing alerts in a header, for tabs in the background."""
    response = Response(mimetype="text/plain")
    fragments.stamp_headers(response)
    return response


def _context() -> dict[str, Any]:
    alert_service = app_context().alert_service
    with measure_cost() as meter:
        alert_list, health = alert_service.list_alerts(), alert_service.checker_health()
        variables = {
            "alert_list": alert_list,
            "health": health,
            "problem": None if health.ok else app_context().checker_problem,
            "deliveries": alert_service.list_deliveries(SHOWN),
            "given_up": alert_service.list_failed_notifications(),
            "past": alert_service.list_past_incidents(SHOWN),
            "channels": alert_service.public_channels(),
        }
    price = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return variables | {"price": price, "titles": app_context().backend_titles}


@edit_bp.get("/alerts/<segment:fp>/ack")
def ack_form(fingerprint: str) -> str:
    """The page that a notification links to. It has a button to acknowledge, since following a link must not change
    anything."""
    alert = app_context().alert_service.find_alert(fingerprint)
    return render_template(
        "alerts/ack.html",
        **layout.page_context(app_context().current_snapshot(), ""),
        alert=alert,
        siblings=app_context().alert_service.sibling_alerts(alert),
        titles=app_context().backend_titles,
        episode=request.args.get("episode") or alert.state.episode,
    )


@edit_bp.post("/alerts/<segment:fp>/ack")
@form_fields("episode", "comment", "do", many=("beside",))
def acknowledge(fingerprint: str) -> ResponseReturnValue:
    """Acknowledge an alert, or with `do=all` also the other alerts that the page listed: 303 to the alerts."""
    comment = request.form.get("comment", "")[:300]
    with_others = form_word("do", "all") == "all"
    beside = dict(_beside(text) for text in request.form.getlist("beside")) if with_others else {}
    alert_service = app_context().alert_service
    alert_service.acknowledge_alert(
        fingerprint, episode=request.form.get("episode", ""), by=current_actor().name, comment=comment
    )
    noted = [fingerprint]
    if beside:
        noted += alert_service.acknowledge_all(beside, by=current_actor().name, comment=comment)
    _record("acknowledge", noted, comment)
    return redirect(url_for("alerting.index"), code=303)


def _beside(text: str) -> tuple[str, str]:
    fingerprint, space, episode = text.partition(" ")
    if not space:
        raise Unsupported("beside: expected a fingerprint and an episode, separated by a space.")
    return fingerprint, episode


@bp.get("/alerts/silences")
def quiet() -> str:
    """Silences and maintenance windows."""
    return render_template(
        "alerts/silences.html", **layout.page_context(app_context().current_snapshot(), "") | _quiet()
    )


@bp.get("/alerts/silences/_list")
def quiet_fragment() -> Response:
    """The polled part of the page."""
    return fragments.render_live("alerts/_silences.html", _quiet())


def _quiet() -> dict[str, Any]:
    alert_list, listed = app_context().alert_service.list_alerts(), app_context().alert_service.list_silences()
    states = [alert.state for alert in (*alert_list.firing, *alert_list.pending)]
    snapshot = app_context().current_snapshot().snapshot
    rows = [
        {
            "silence": each,
            "holds": each.starts_at <= alert_list.at
            and (each.weekly is None or each.weekly.contains_time(alert_list.at)),
            "matches": preview_silence(each, states, snapshot, ()),
        }
        for each in listed
    ]
    return {"rows": rows, "at": alert_list.at, "days": DAYS, "titles": app_context().backend_titles}


@edit_bp.get("/silences/new")
def silence_form() -> str:
    """The form of a silence, filled in from the query parameters."""
    return _silence_form(SilenceForm.of(request.args))


@edit_bp.post("/silences")
@form_fields(*FIELDS, "everything", "do", many=("days",))
def silence() -> ResponseReturnValue:
    """Create a silence: 303 to the silences, or the form again with its errors or the preview."""
    previewing = form_word("do", "store", "preview") == "preview"
    form_flag("everything")
    form = SilenceForm.typed(request.form, request.form.getlist("days"))
    alert_service = app_context().alert_service
    values = form.values(alert_service.list_alerts().at, admin=has_role(Role.ADMIN))
    if form.errors:
        unconfirmed = set(form.errors) == {"everything"}
        return _silence_form(form), 403 if form.needs_admin else (409 if unconfirmed else 422)
    try:
        drafted = alert_service.draft_silence(by=current_actor().name, **values)
    except ConfigurationError as exc:
        form.errors["when"] = exc.message.removeprefix("silence: ")
        return _silence_form(form), 422
    if previewing:
        return _silence_form(form, drafted)
    alert_service.save_silence(drafted)
    _record("silence", [drafted.id], drafted.comment)
    return redirect(url_for("alerting.quiet"), code=303)


def _silence_form(form: SilenceForm, drafted: Silence | None = None) -> str:
    found = None
    current = app_context().current_snapshot()
    if drafted is not None:
        alert_list = app_context().alert_service.list_alerts()
        states = [alert.state for alert in (*alert_list.firing, *alert_list.pending)]
        found = preview_silence(
            drafted,
            states,
            current.snapshot,
            [entry.rule for entry in app_context().alert_service.editor.rules_in_force()],
        )
    return render_template(
        "alerts/silence.html",
        **layout.page_context(current, ""),
        form=form,
        found=found,
        days=DAYS,
        titles=app_context().backend_titles,
        sources=list(app_context().sources),
    )


@edit_bp.post("/silences/<segment:silence_id>/expire")
@form_fields()
def expire(silence_id: str) -> ResponseReturnValue:
    """End a silence now."""
    app_context().alert_service.expire_silence(silence_id)
    _record("expire silence", [silence_id], None)
    return redirect(url_for("alerting.quiet"), code=303)


@edit_bp.post("/deliveries/<any(again, dismiss):verb>")
@form_fields("id")
def given_up(verb: str) -> ResponseReturnValue:
    """Resend or dismiss an undelivered notification: 303 to the deliveries."""
    message_id = read_segment(request.form.get("id", ""))[:300]
    if verb == "again":
        app_context().alert_service.resend_failed(message_id)
    else:
        app_context().alert_service.dismiss_failed(message_id)
    _record("resend notification" if verb == "again" else "dismiss notification", [message_id], None)
    return redirect(url_for("alerting.index") + "#deliveries", code=303)


@edit_bp.post("/channels/<segment:channel>/test")
@form_fields()
def test_fire(channel: str) -> ResponseReturnValue:
    """Send a test notification through a channel, for admins."""
    if not has_role(Role.ADMIN):
        raise Forbidden("You need the admin role to send a test notification.")
    app_context().alert_service.send_test(channel, by=current_actor().name)
    _record("send test notification", [channel], None)
    return redirect(url_for("alerting.index") + "#deliveries", code=303)


def _record(action: str, ids: list[str], reason: str | None) -> None:
    app_context().forget_firing()
    app_context().action_service.audit_log.record_event(
        audit_log.build_event(current_actor(), action, ids=ids, reason=reason or None)
    )


@api_bp.get("/alerts")
def alerts() -> Response:
    """List firing alerts, worst first.

    `watched` is true while rules are evaluated. Otherwise the list can be empty or out of date, and `problem` gives the
    reason where it is known.
    """
    alert_service = app_context().alert_service
    alert_list, health = alert_service.list_alerts(), alert_service.checker_health()
    problem = None if health.ok else app_context().checker_problem
    return jsonify(
        alerts=shown_firing(alert_list),
        pending=[shown(alert) for alert in alert_list.pending],
        watched=health.ok,
        problem=_one_line(problem),
    )


def _one_line(problem: QueuedeckError | None) -> str | None:
    """The error and its hint in one line."""
    return f"{problem.message.rstrip('.')}. {problem.hint or ''}".rstrip() if problem else None


@api_bp.get("/rules")
def rules() -> Response:
    """List all rules and where each is defined.

    `problem` says why they are not evaluated; it is null while they are.
    """
    overview = app_context().rule_board()
    listed = [told(entry, overview.previews.get(entry.rule.id)) for entry in overview.entries]
    return jsonify(rules=listed, problem=_one_line(app_context().alert_service.ownership_conflict))


@api_bp.get("/rules/<segment:rule_id>")
def rule(rule_id: str) -> Response:
    """Retrieve a rule and its current state."""
    entry = app_context().alert_service.editor.find_rule(rule_id)
    return jsonify(told(entry, app_context().rule_board().previews.get(entry.rule.id)))


def told(entry: RuleInForce, seen: RulePreview | None) -> dict[str, Any]:
    """A rule as the API returns it. `now` comes from the newest sample; None before the first."""
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


def _now(seen: RulePreview) -> dict[str, Any]:
    return {
        "judged": seen.judged,
        "warnings": seen.warnings,
        "criticals": seen.criticals,
        "looked_at": seen.looked_at,
        "unknown": seen.unknown,
        "beyond": [
            {"labels": spot.labels.as_dict(), "value": spot.value, "severity": spot.severity} for spot in seen.beyond
        ],
    }


@api_bp.get("/silences")
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
            for each in app_context().alert_service.list_silences()
        ],
        problem=_one_line(app_context().alert_service.ownership_conflict),
    )


@api_bp.get("/deliveries")
def deliveries() -> Response:
    """List delivery attempts of notifications, newest first."""
    return jsonify(
        deliveries=[
            {
                **{name: getattr(each, name) for name in ("id", "channel", "kind", "rule_id", "severity", "outcome")},
                **{name: getattr(each, name) for name in ("status", "duration_s", "attempt")},
                "at": iso(instant(each.at)),
            }
            for each in app_context().alert_service.list_deliveries()
        ],
        problem=_one_line(app_context().alert_service.ownership_conflict),
    )


def shown_firing(alert_list: AlertList) -> list[dict[str, Any]]:
    """Firing alerts as the API returns them, worst first. `muted`: a warning without notifications, since the critical
    alert of the same rule and place is firing too."""
    notified = {alert.state.fp for alert in alert_list.incidents}
    return [shown(alert) | {"muted": alert.state.fp not in notified} for alert in alert_list.firing]


def shown(alert: Alert) -> dict[str, Any]:
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
