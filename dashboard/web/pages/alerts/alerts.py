"""The page of alerts: firing alerts and their acknowledgements, and notifications with their results."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....actions import audit_log
from ....actions.pauses import PauseRecord, describe_pause
from ....alerts.delivery.message import alert_title
from ....alerts.evaluation.state_machine import AlertLabels
from ....alerts.management.acknowledgements import GroupAcknowledgement
from ....alerts.management.alert_groups import group_alerts
from ....alerts.management.alert_owners import AlertOwners
from ....alerts.management.alert_reader import Alert
from ....alerts.notification_builder import waiting_text
from ....auth import Role
from ....errors import Forbidden, Unsupported
from ....sources.metering import measure_cost
from ... import fragments
from ...access.security import current_actor, has_role, sees_all
from ...context import app_context, app_services
from ...forms.request_input import form_fields, form_word
from ...urls import read_segment
from .. import layout
from ..moments.asked_moment import asked_moment
from ..moments.sample_data import sample_end_of
from .group_result import GroupResult
from .past_alerts import render_past

bp = Blueprint("alerting", __name__)
edit_bp = Blueprint("alerting_edit", __name__)

ALERTS = "alerts/_alerts.html"
SHOWN = 20
FOLD_FROM = 4  # alerts of one incident; fewer are rows of their own while there is room


@edit_bp.before_request
def refuse_elsewhere() -> None:
    """Raise Conflict while a dashboard with other settings evaluates the alerts."""
    if (elsewhere := app_services().alert_service.ownership.conflict) is not None:
        raise elsewhere


@bp.get("/alerts")
def index() -> str:
    """The Alerts page, also as of a moment in the past."""
    if (moment := asked_moment()) is not None:
        return render_past(moment)
    variables = _context()
    return render_template(
        "alerts/index.html",
        **layout.page_context(app_services().snapshots.current(), variables["cost"]) | variables,
        result=GroupResult.read(request.args),
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
    alert_service = app_services().alert_service
    with measure_cost() as meter:
        alert_list = alert_service.alerts.list_or_recall()
        variables: dict[str, Any] = {
            "alert_list": alert_list,
            "groups": group_alerts(alert_list).groups,
            "pause_note": pause_note,
            "owners": AlertOwners(app_services().queue_directory, alert_list.rules),
            "shown": SHOWN,
            "fold_from": FOLD_FROM if len(alert_list.incidents) <= SHOWN else 2,
            "channels": alert_service.channels,
        }
        if alert_list.problem is None:
            health = alert_service.checker.read_health()
            history = alert_service.alerts.list_history(alert_list.firing, SHOWN)
            variables |= {
                "health": health,
                "problem": None if health.ok else app_services().checker_problem,
                "deliveries": alert_service.notifications.list_deliveries(SHOWN) if sees_all() else (),
                "given_up": alert_service.notifications.list_failed_notifications() if sees_all() else (),
                "history": history,
                "sample_end_s": sample_end_of(history),
            }
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    checker = app_services().checker
    announced = checker.alerts.announced_outage if checker is not None and checker.alerts is not None else None
    return variables | {"cost": cost, "titles": app_services().sources.titles, "announced": announced}


def pause_note(labels: AlertLabels) -> str:
    """What is waiting in a paused queue, and who paused it; "" when neither is known. Cost: as `current_pauses`."""
    snapshot = app_services().snapshots.current().snapshot
    queue = snapshot.find(labels.source or "", labels.backend or "", labels.queue or "") if snapshot else None
    if queue is None or not queue.paused:
        return ""
    recorded = app_context().caches.current_pauses()
    parts = (waiting_text(queue), describe_pause(recorded.find_pause(queue)) if recorded is not None else "")
    return ", ".join(part for part in parts if part)


def find_pause(labels: AlertLabels) -> PauseRecord | None:
    """Who paused the queue of an alert in Queuedeck; None when it is not paused, or was paused elsewhere. Cost: as
    `current_pauses`."""
    snapshot = app_services().snapshots.current().snapshot
    queue = snapshot.find(labels.source or "", labels.backend or "", labels.queue or "") if snapshot else None
    recorded = app_context().caches.current_pauses() if queue is not None and queue.paused else None
    return recorded.find_pause(queue) if recorded is not None and queue is not None else None


@edit_bp.get("/alerts/<segment:fp>/ack")
def ack_form(fp: str) -> str:
    """The page that a notification links to. It has a button to acknowledge, since following a link must not change
    anything."""
    alerts = app_services().alert_service.alerts
    alert, owners = alerts.find_alert(fp), AlertOwners(app_services().queue_directory, alerts.list_alerts().rules)
    return render_template(
        "alerts/ack.html",
        **layout.page_context(app_services().snapshots.current(), ""),
        alert=alert,
        queue_info=owners.find(alert.state),
        siblings=app_services().alert_service.alerts.sibling_alerts(alert),
        titles=app_services().sources.titles,
        episode=request.args.get("episode") or alert.state.episode,
    )


@edit_bp.post("/alerts/<segment:fp>/ack")
@form_fields("episode", "comment", "do", many=("beside",))
def acknowledge(fp: str) -> ResponseReturnValue:
    """Acknowledge an alert, or with `do=all` also the other alerts that the page listed: 303 to the alerts."""
    comment = request.form.get("comment", "")[:300]
    with_others = form_word("do", "all") == "all"
    beside = dict(_beside(text) for text in request.form.getlist("beside")) if with_others else {}
    acknowledge_alert(fp, request.form.get("episode", ""), comment, beside)
    return redirect(url_for("alerting.index"), code=303)


def _beside(text: str) -> tuple[str, str]:
    fingerprint, space, episode = text.partition(" ")
    if not space:
        raise Unsupported("beside: expected a fingerprint and an episode, separated by a space.")
    return fingerprint, episode


@edit_bp.post("/deliveries/<any(again, dismiss):verb>")
@form_fields("id")
def given_up(verb: str) -> ResponseReturnValue:
    """Resend or dismiss a failed notification: 303 to the deliveries."""
    message_id = read_segment(request.form.get("id", ""))[:300]
    if verb == "again":
        app_services().alert_service.notifications.resend_failed(message_id)
    else:
        app_services().alert_service.notifications.dismiss_failed(message_id)
    record_action("resend notification" if verb == "again" else "dismiss notification", [message_id], None)
    return redirect(url_for("alerting.index") + "#deliveries", code=303)


@edit_bp.post("/channels/<segment:channel>/test")
@form_fields()
def test_fire(channel: str) -> ResponseReturnValue:
    """Send a test notification through a channel, for admins."""
    if not has_role(Role.ADMIN):
        raise Forbidden("You need the admin role to send a test notification.")
    app_services().alert_service.notifications.send_test(channel, by=current_actor().name)
    record_action("send test notification", [channel], None)
    return redirect(url_for("alerting.index") + "#deliveries", code=303)


def acknowledge_alert(
    fingerprint: str, episode: str, comment: str, beside: Mapping[str, str] = MappingProxyType({})
) -> Alert:
    """Acknowledge an alert for the user, and with it those `beside` (episode by fingerprint); they are recorded as one.

    Raises NotFound, Conflict.
    """
    acknowledgements, by = app_services().alert_service.acknowledgements, current_actor().name
    alert = acknowledgements.acknowledge_alert(fingerprint, episode=episode, by=by, comment=comment)
    others = acknowledgements.acknowledge_all(beside, by=by, comment=comment) if beside else ()
    title = alert_title(alert.state.rule_name, alert.state.labels)
    record_action("acknowledge", [fingerprint, *others], comment, title)
    return alert


def acknowledge_group(key: str, seen_at: float, comment: str) -> GroupAcknowledgement:
    """Acknowledge all alerts of a group that began until `seen_at`, for the user. Raises NotFound, Conflict."""
    done = app_services().alert_service.acknowledgements.acknowledge_group(
        key, seen_at=seen_at, by=current_actor().name, comment=comment
    )
    record_action("acknowledge", list(done.done), comment, done.rule_name)
    return done


def record_action(action: str, ids: list[str], reason: str | None, detail: str | None = None) -> None:
    """Add what the user did to the audit log, and drop the cached summary of firing alerts. `detail` names the object,
    where ids do not."""
    app_context().caches.forget_firing()
    app_services().action_service.audit_log.record_event(
        audit_log.build_event(current_actor(), action, ids=ids, reason=reason or None, detail=detail)
    )
