"""What a notification of a rule would say, as text, built as a real one is. Sends and stores nothing."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ...model import Snapshot
from ...sampling.recent_history import History, Point
from ..delivery.channels.wording import format_plain_text
from ..delivery.message import PageLinks, build_message
from ..evaluation.due_notifications import DueNotification
from ..evaluation.evaluation_run import Transition
from ..evaluation.rule_history import RuleHistoryRecorder
from ..evaluation.state_machine import AlertLabels, AlertPhase, create_state
from ..notification_builder import NotificationBuilder, no_errors
from ..rules.rule import Rule, Severity

_EPISODE = "preview"
_CHANNEL = "preview"


def sample_notification(
    rule: Rule,
    severity: Severity,
    labels: AlertLabels,
    value: float | None,
    snapshot: Snapshot,
    history: History,
    hour: Sequence[Point] = (),
) -> str:
    """The text of the notification that this alert would send now, without its links and top errors.

    `hour` = the last hour of the figure, for metrics whose history the sampler does not store. Pure.
    """
    now = snapshot.sampled_at
    firing = replace(
        create_state(rule, severity, labels, now),
        phase=AlertPhase.FIRING,
        episode=_EPISODE,
        started_at=now,
        value=value,
        peak=value,
    )
    due = DueNotification("firing", _EPISODE, 1, (_CHANNEL,), now)
    builder = NotificationBuilder(RuleHistoryRecorder(snapshot.interval_s), no_errors)
    (queued,) = builder.build_notifications(Transition(None, firing, rule, (), (due,)), history, snapshot)
    notification = queued.notification
    if not notification.spark:
        notification = replace(notification, spark=tuple(hour))
    message = build_message(_EPISODE, "firing", [notification], PageLinks(None), _CHANNEL)
    return format_plain_text(message).rstrip()
