"""A notification as the outbox stores it: facts only, worded when it is sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Value
from ..settings.queue_directory import NO_INFO, QueueInfo
from .evaluation.due_notifications import DueNotification
from .evaluation.state_machine import AlertLabels, AlertState, StateChange
from .rules.rule import Reducer, Rule, Severity

# Prefix of the episodes that were announced without the store.
LOCAL = "local-"


class Notification(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of a notification, the same for every channel. Instants are seconds since 1970."""

    kind: str  # firing, resolved, reminder, flapping, test, approval
    number: int
    episode: str
    fingerprint: str
    rule_id: str
    rule_name: str
    metric: str
    severity: Severity
    at: float
    labels: AlertLabels = AlertLabels()
    op: str = "gt"
    threshold: float | None = None
    reducer: Reducer = "last"
    value: float | None = None
    last_value: float | None = None  # the last known one, while `value` is unknown
    unknown_s: float = 0.0  # for how long `value` has been unknown
    peak: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None
    detail: str | None = None  # the server's own description of the problem
    runbook_url: str | None = None  # of the rule, otherwise of the queue
    owner: str | None = None  # of the queue
    note: str | None = None  # likewise
    fallback: str | None = None
    spark: tuple[float | None, ...] = ()
    top_errors: tuple[str, ...] = ()
    page: str | None = None  # the path of the page about it, if that does not follow from the labels

    def channel_message_id(self, channel: str) -> str:
        """The stable id of this notification on a channel, so that writing it twice has no effect."""
        return f"{self.episode}:{self.kind}:{self.number}:{channel}"

    @property
    def group_key(self) -> str:
        """The key of notifications that can share a message, apart from their kind."""
        return f"{self.rule_id}:{self.severity.value}"


class QueuedNotification(Value, frozen=True, kw_only=True):
    """A notification for one channel, due at an instant of the store's clock."""

    notification: Notification
    channel: str
    due_at: float

    @property
    def id(self) -> str:
        """The id of the notification in the outbox."""
        return self.notification.channel_message_id(self.channel)


class HistoryEntry(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the alert history: an incident began or ended."""

    kind: str  # firing, resolved
    episode: str
    at: float
    rule_id: str
    rule_name: str
    metric: str
    severity: Severity
    labels: AlertLabels = AlertLabels()
    threshold: float | None = None
    value: float | None = None
    peak: float | None = None
    started_at: float | None = None
    lasted_s: float = 0.0
    reason: str | None = None
    fingerprint: str = ""


def build_history_entry(state: AlertState, change: StateChange) -> HistoryEntry:
    """The history entry for a change of state."""
    return HistoryEntry(
        kind=change.kind,
        episode=change.episode,
        at=change.at,
        rule_id=state.rule_id,
        rule_name=state.rule_name,
        metric=state.metric,
        severity=state.severity,
        labels=state.labels,
        threshold=state.threshold,
        value=change.value,
        peak=change.peak,
        started_at=change.started_at,
        lasted_s=round(change.lasted_s, 3),
        reason=change.reason,
        fingerprint=state.fingerprint,
    )


def build_notification(
    state: AlertState,
    due: DueNotification,
    rule: Rule | None,
    now: float,
    *,
    reason: str | None = None,
    detail: str | None = None,
    spark: Sequence[float | None] = (),
    top_errors: Sequence[str] = (),
    info: QueueInfo = NO_INFO,
) -> Notification:
    """The notification that is `due` about a state; `info`: what the settings say about its queue."""
    return Notification(
        kind=due.kind,
        number=due.number,
        episode=due.episode,
        fingerprint=state.fingerprint,
        rule_id=state.rule_id,
        rule_name=state.rule_name,
        metric=state.metric,
        severity=state.severity,
        at=now,
        labels=state.labels,
        op=rule.op if rule else "gt",
        threshold=state.threshold,
        reducer=state.reducer,
        value=state.value_now,
        last_value=state.value if state.unknown_s else None,
        unknown_s=state.unknown_s,
        peak=state.peak,
        started_at=due.started_at,
        ended_at=now if due.kind == "resolved" else None,
        reason=reason,
        detail=detail,
        runbook_url=(rule.runbook_url if rule else None) or info.runbook_url,
        owner=info.owner,
        note=info.note,
        fallback=rule.fallback_channel if rule else None,
        spark=tuple(spark),
        top_errors=tuple(top_errors),
    )


def queue_notifications(
    notification: Notification, due: DueNotification, rule: Rule | None
) -> tuple[QueuedNotification, ...]:
    """The notification queued for each of its channels, due after the rule's group wait."""
    wait_s = rule.severity_wait_s(notification.severity) if rule else 0.0
    return tuple(
        QueuedNotification(notification=notification, channel=channel, due_at=notification.at + wait_s)
        for channel in due.to
    )
