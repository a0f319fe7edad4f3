"""The alerts of the JSON API: firing alerts, silences, and deliveries of notifications."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Literal

from flask import Blueprint
from msgspec import Meta
from msgspec.structs import asdict

from ...alerts.delivery.notification_claim import DeliveryAttempt
from ...alerts.evaluation.state_machine import AlertPhase
from ...alerts.management.alert_groups import group_alerts
from ...alerts.management.alert_owners import AlertOwners
from ...alerts.management.alert_reader import Alert, AlertList
from ...alerts.management.past_alerts import PastAlert, PastAlerts
from ...alerts.rules.rule import Severity
from ...alerts.silences import MAX_COMMENT, Silence, WeeklyWindow
from ...clock import instant, iso
from ...errors import QueuedeckError, join_hint
from ..context import app_services
from ..forms.request_input import Body, json_body
from ..pages.alerts import alerts as alerts_page
from ..pages.alerts.past_alerts import was_sampled_at
from ..pages.moments.asked_moment import asked_moment
from ..views.moments.moment import Moment
from .action_bodies import Text
from .responses import JsonObject, Time, json_response

bp = Blueprint("api_alerting", __name__, url_prefix="/api/v1")
edit_bp = Blueprint("api_alerting_edit", __name__, url_prefix="/api/v1")

# The step of the times that the API returns, to the nearest one.
SHOWN_STEP_S = 0.001


class AlertFactsJson(JsonObject, frozen=True, kw_only=True):
    """What identifies an alert."""

    fingerprint: str
    rule: str
    name: str
    metric: str
    severity: Severity
    state: AlertPhase
    labels: dict[str, str]


class AlertJson(AlertFactsJson, frozen=True, kw_only=True):
    """An alert. `value` null: the value has been unknown for `unknown_s` and was `last_value` before; the alert keeps
    firing until the value is known. `episode` identifies the incident. `owner` and `note` are those of its queue,
    `runbook_url` is that of its rule, otherwise of its queue. `paused_by`, `paused_at`: who paused its queue in
    Queuedeck, and when."""

    value: float | None
    last_value: float | None
    unknown_s: float
    threshold: float
    since: Time | None
    episode: str | None
    acknowledged_by: str | None
    silenced_until: Time | None
    owner: str | None
    runbook_url: str | None
    note: str | None
    paused_by: str | None
    paused_at: Time | None


class FiringAlertJson(AlertJson, frozen=True, kw_only=True):
    """A firing alert. `muted`: without notifications, since another firing alert suppresses them: the critical one of
    the same rule and place, a source that does not respond, or a rule of `inhibited_by`. Alerts with the same `group`
    are one incident: of one rule on one library, or caused by it."""

    muted: bool
    group: str


class AlertsJson(JsonObject, frozen=True, kw_only=True):
    """Firing and pending alerts as of `at`. `problem` says why they may be incomplete. `age_s`: since they were read;
    above 0 while the store cannot be read, for what this process knew before."""

    alerts: list[FiringAlertJson]
    pending: list[AlertJson]
    watched: bool
    problem: str | None
    at: Time | None
    age_s: float


class PastAlertJson(AlertFactsJson, frozen=True, kw_only=True):
    """An alert that was firing at a moment, with the fields of a firing alert; those that are not recorded are null.
    `since`: when it began. `resolved_at` null: it is still firing (`firing_now`), or its end is not recorded. `muted`
    is true if the critical alert of the same rule and place was firing, too."""

    threshold: float | None
    since: Time | None
    resolved_at: Time | None
    firing_now: bool
    episode: str | None
    muted: bool | None
    group: None = None
    value: None = None
    last_value: None = None
    unknown_s: None = None
    acknowledged_by: None = None
    silenced_until: None = None
    owner: None = None
    runbook_url: None = None
    note: None = None
    paused_by: None = None
    paused_at: None = None


class PastAlertsJson(JsonObject, frozen=True, kw_only=True):
    """The alerts that were firing `at` a moment, `age_s` ago; null if a dashboard with other settings evaluates them.
    `watched`: whether anything was sampled then, null if no history is recorded. `problem` says why alerts may be
    missing."""

    alerts: list[PastAlertJson] | None
    pending: None = None
    watched: bool | None
    problem: str | None
    at: Time | None
    age_s: float


class AcknowledgedJson(JsonObject, frozen=True, kw_only=True):
    """The alert is acknowledged, which stops its reminders until it resolves."""

    outcome: Literal["done"]
    episode: str


class AcknowledgedGroupJson(JsonObject, frozen=True, kw_only=True):
    """How many alerts are `acknowledged` now, were `already`, or began after `seen_at` and are not (`newer`)."""

    acknowledged: int
    already: int
    newer: int


class AcknowledgeBody(Body, frozen=True, kw_only=True):
    """`episode`: only this incident; 409 when it has ended and the alert is firing again."""

    episode: Text | None = None
    comment: Annotated[str, Meta(max_length=MAX_COMMENT)] = ""


class AcknowledgeGroupBody(Body, frozen=True, kw_only=True):
    """`seen_at`: only alerts that had begun by then, the `at` of the list that you read; all without it."""

    seen_at: Annotated[datetime, Meta(tz=True)] | None = None
    comment: Annotated[str, Meta(max_length=MAX_COMMENT)] = ""


class SilenceJson(JsonObject, frozen=True, kw_only=True):
    """Which alerts are silenced until when. All globs must match."""

    id: str
    until: Time | None
    by: str
    comment: str
    starts_at: Time | None
    rule: str
    source: str
    backend: str
    queue: str
    severity: Severity | None
    weekly: WeeklyWindow | None


class SilencesJson(JsonObject, frozen=True, kw_only=True):
    """Silences. `problem` says why they are not applied."""

    silences: list[SilenceJson]
    problem: str | None


class DeliveryJson(JsonObject, frozen=True, kw_only=True):
    """One attempt to deliver a notification."""

    id: str
    channel: str
    kind: str
    rule_id: str
    severity: str
    at: Time | None
    outcome: str
    status: str
    duration_s: float
    attempt: int


class DeliveriesJson(JsonObject, frozen=True, kw_only=True):
    """Delivery attempts. `problem` says why there are none."""

    deliveries: list[DeliveryJson]
    problem: str | None


@bp.get("/alerts")
@json_response
def alerts() -> AlertsJson | PastAlertsJson:
    """List firing alerts, worst first.

    `watched` is true while rules are evaluated. Otherwise the list can be empty or out of date, and `problem` gives the
    reason where it is known. With `at`, those that were firing at that moment, see docs/history.md: what is not
    recorded is null, also `pending`.
    """
    if (moment := asked_moment()) is not None:
        return _past_alerts(moment)
    alert_service = app_services().alert_service
    alert_list = alert_service.alerts.list_or_recall()
    health = alert_list.health
    watched = alert_list.problem is None and health is not None and health.ok
    owners = AlertOwners(app_services().queue_directory, alert_list.rules)
    problem = alert_list.problem or (None if watched else app_services().checker_problem)
    return AlertsJson(
        alerts=json_firing(alert_list),
        pending=[json_alert(alert, owners) for alert in alert_list.pending],
        watched=watched,
        problem=join_problem(problem),
        at=iso(instant(alert_list.at)),
        age_s=round(alert_list.age_s, 3),
    )


def _past_alerts(moment: Moment) -> PastAlertsJson:
    found, watched = app_services().alert_service.past_alerts.firing_at(moment.at_s), was_sampled_at(moment)
    shown = {alert.entry.fingerprint for alert in found.incidents}
    return PastAlertsJson(
        alerts=[_past_alert(alert, shown) for alert in found.firing] if found.is_ours else None,
        watched=watched,
        problem=_past_problem(found, watched),
        at=iso(instant(moment.at_s)),
        age_s=round(moment.ago_s, 3),
    )


def _past_alert(alert: PastAlert, shown: Collection[str]) -> PastAlertJson:
    entry = alert.entry
    return PastAlertJson(
        fingerprint=entry.fingerprint,
        rule=entry.rule_id,
        name=entry.rule_name,
        metric=entry.metric,
        severity=entry.severity,
        state=AlertPhase.FIRING,
        labels=entry.labels.as_dict(),
        threshold=entry.threshold,
        since=iso(instant(alert.started_at)),
        resolved_at=iso(instant(alert.ended_at)),
        firing_now=alert.is_firing_now,
        episode=entry.episode or None,
        muted=None if entry.fingerprint in shown else True,
    )


def _past_problem(found: PastAlerts, watched: bool | None) -> str | None:
    """Why the alerts of a moment may be incomplete."""
    if not found.is_ours:
        conflict = app_services().alert_service.ownership.conflict
        return join_problem(conflict) or "A dashboard with other settings was the last to evaluate the rules."
    if not found.is_complete:
        back_to = iso(instant(found.goes_back_to))
        return f"The alert history goes back to {back_to}: other alerts may have been firing."
    return "Nothing was recorded then: no checker was running, or it could read no Redis." if watched is False else None


@edit_bp.post("/alerts/<segment:fingerprint>/acknowledge")
@json_body(AcknowledgeBody)
@json_response
def acknowledge(body: AcknowledgeBody, fingerprint: str) -> AcknowledgedJson:
    """Acknowledge a firing alert, which stops its reminders."""
    episode = body.episode or app_services().alert_service.alerts.find_alert(fingerprint).state.episode
    alert = alerts_page.acknowledge_alert(fingerprint, episode, body.comment)
    return AcknowledgedJson(outcome="done", episode=alert.state.episode)


@edit_bp.post("/alerts/groups/<segment:group>/acknowledge")
@json_body(AcknowledgeGroupBody)
@json_response
def acknowledge_group(body: AcknowledgeGroupBody, group: str) -> AcknowledgedGroupJson:
    """Acknowledge all alerts of an incident.

    `group` is that of its alerts.
    """
    seen_at = math.inf if body.seen_at is None else body.seen_at.timestamp() + SHOWN_STEP_S
    done = alerts_page.acknowledge_group(group, seen_at, body.comment)
    return AcknowledgedGroupJson(acknowledged=len(done.done), already=done.already, newer=done.newer)


@bp.get("/silences")
@json_response
def silences() -> SilencesJson:
    """List silences that have not ended."""
    alert_service = app_services().alert_service
    return SilencesJson(
        silences=[json_silence(silence) for silence in alert_service.silences.list_silences()],
        problem=join_problem(alert_service.ownership.conflict),
    )


@bp.get("/deliveries")
@json_response
def deliveries() -> DeliveriesJson:
    """List delivery attempts of notifications, newest first."""
    alert_service = app_services().alert_service
    return DeliveriesJson(
        deliveries=[_json_delivery(attempt) for attempt in alert_service.notifications.list_deliveries()],
        problem=join_problem(alert_service.ownership.conflict),
    )


def json_firing(alert_list: AlertList) -> list[FiringAlertJson]:
    """Firing alerts as the API returns them, worst first."""
    owners = AlertOwners(app_services().queue_directory, alert_list.rules)
    notified, grouped = {alert.state.fingerprint for alert in alert_list.incidents}, group_alerts(alert_list)
    return [
        FiringAlertJson(
            **asdict(json_alert(alert, owners)),
            muted=alert.state.fingerprint not in notified or alert.state.fingerprint in grouped.inhibited,
            group=grouped.keys[alert.state.fingerprint],
        )
        for alert in alert_list.firing
    ]


def json_alert(alert: Alert, owners: AlertOwners) -> AlertJson:
    """A firing or pending alert as the API returns it."""
    state, info = alert.state, owners.find(alert.state)
    pause = alerts_page.find_pause(state.labels)
    return AlertJson(
        fingerprint=state.fingerprint,
        rule=state.rule_id,
        name=state.rule_name,
        metric=state.metric,
        severity=state.severity,
        state=state.phase,
        labels=state.labels.as_dict(),
        value=state.value_now,
        last_value=state.value,
        unknown_s=round(state.unknown_s, 1),
        threshold=state.threshold,
        since=iso(instant(state.started_at)),
        episode=state.episode or None,
        acknowledged_by=alert.ack.by if alert.ack else None,
        silenced_until=iso(instant(alert.silenced_until)) if alert.silenced_until else None,
        owner=info.owner,
        runbook_url=info.runbook_url,
        note=info.note,
        paused_by=pause.who if pause else None,
        paused_at=iso(instant(pause.at)) if pause else None,
    )


def json_silence(silence: Silence) -> SilenceJson:
    """A silence as the API returns it."""
    return SilenceJson(
        id=silence.id,
        until=iso(instant(silence.until)),
        by=silence.by,
        comment=silence.comment,
        starts_at=iso(instant(silence.starts_at)),
        rule=silence.rule,
        source=silence.source,
        backend=silence.backend,
        queue=silence.queue,
        severity=silence.severity,
        weekly=silence.weekly,
    )


def _json_delivery(attempt: DeliveryAttempt) -> DeliveryJson:
    return DeliveryJson(
        id=attempt.id,
        channel=attempt.channel,
        kind=attempt.kind,
        rule_id=attempt.rule_id,
        severity=attempt.severity,
        at=iso(instant(attempt.at)),
        outcome=attempt.outcome,
        status=attempt.status,
        duration_s=attempt.duration_s,
        attempt=attempt.attempt,
    )


def join_problem(problem: QueuedeckError | None) -> str | None:
    """The error and its hint in one line."""
    return join_hint(problem.message, problem.hint) if problem else None
