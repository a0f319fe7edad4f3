"""The alerts as someone with some rights sees them, and what such a person may change of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from ..alerts.delivery.notification_claim import DeliveryAttempt
from ..alerts.management.acknowledgements import Acknowledgements, GroupAcknowledgement
from ..alerts.management.alert_groups import group_alerts
from ..alerts.management.alert_reader import Alert, AlertReader
from ..alerts.management.notifications import FailedNotification, NotificationLog
from ..alerts.management.rule_editor import RuleEditor
from ..alerts.management.silence_editor import SilenceEditor
from ..alerts.management.visible_alerts import VisibleAlerts
from ..alerts.rules.ruleset import RuleInForce
from ..alerts.service import AlertService
from ..alerts.silences import Silence
from ..errors import Forbidden, NotFound, RightMissing
from ..model import QueueStats
from ..rights.rights import Rights

NO_ALERTS_RIGHT = "You need the right 'alerts' on the queue of this alert."
TOO_WIDE = "You may silence alerts of single queues only, on which you have the right 'alerts'."
TOO_WIDE_HINT = "Choose one source, one library and one queue, without * and ?."


class RestrictedAcknowledgements(Acknowledgements):
    """Acknowledges the alerts on whose queues the right is given."""

    def __init__(self, inner: Acknowledgements, alerts: AlertReader, visible: VisibleAlerts) -> None:
        self._inner = inner
        self._alerts = alerts
        self._visible = visible

    def acknowledge_alert(self, fingerprint: str, *, episode: str, by: str, comment: str = "") -> Alert:
        """As Acknowledgements.acknowledge_alert. Raises RightMissing without the right."""
        if not self._visible.may_handle(self._alerts.find_alert(fingerprint).state.labels):
            raise RightMissing(NO_ALERTS_RIGHT)
        return self._inner.acknowledge_alert(fingerprint, episode=episode, by=by, comment=comment)

    def acknowledge_all(self, episodes: Mapping[str, str], *, by: str, comment: str = "") -> tuple[str, ...]:
        """As Acknowledgements.acknowledge_all; alerts without the right are skipped."""
        allowed = {
            alert.state.fingerprint
            for alert in self._alerts.list_alerts().firing
            if self._visible.may_handle(alert.state.labels)
        }
        wanted = {fingerprint: episode for fingerprint, episode in episodes.items() if fingerprint in allowed}
        return self._inner.acknowledge_all(wanted, by=by, comment=comment)

    def acknowledge_group(self, key: str, *, seen_at: float, by: str, comment: str = "") -> GroupAcknowledgement:
        """As Acknowledgements.acknowledge_group, for the alerts of the group that may be seen.

        Raises RightMissing unless the right is given for all of them."""
        group = group_alerts(self._alerts.list_alerts()).find_group(key)
        if group is None:
            raise NotFound("These alerts are no longer firing.")
        if not all(self._visible.may_handle(alert.state.labels) for alert in group.everything):
            raise RightMissing(NO_ALERTS_RIGHT)
        seen = [alert for alert in group.everything if (alert.state.started_at or 0.0) <= seen_at]
        episodes = {alert.state.fingerprint: alert.state.episode for alert in seen if alert.ack is None}
        done = self._inner.acknowledge_all(episodes, by=by, comment=comment)
        return GroupAcknowledgement(
            rule_name=group.first.rule_name,
            done=done,
            already=len(seen) - len(episodes),
            newer=len(group.everything) - len(seen),
        )


class RestrictedSilences(SilenceEditor):
    """Lists the silences that can concern visible alerts, and changes those of single queues with the right."""

    def __init__(self, inner: SilenceEditor, visible: VisibleAlerts) -> None:
        self._inner = inner
        self._visible = visible
        self.alert_store = inner.alert_store

    def list_silences(self) -> tuple[Silence, ...]:
        """As SilenceEditor.list_silences."""
        return self._visible.silences_of(self._inner.list_silences())

    def save_silence(self, silence: Silence) -> None:
        """As SilenceEditor.save_silence. Raises RightMissing unless it is for one queue on which the right is given."""
        if not self._visible.may_silence(silence):
            raise RightMissing(TOO_WIDE, hint=TOO_WIDE_HINT)
        self._inner.save_silence(silence)

    def expire_silence(self, silence_id: str) -> Silence:
        """As SilenceEditor.expire_silence. Raises RightMissing for one that covers more than such a queue."""
        found = next((each for each in self.list_silences() if each.id == silence_id), None)
        if found is None:
            raise NotFound("This silence has already ended.")
        if not self._visible.may_silence(found):
            raise RightMissing("This silence also covers queues on which you do not have the right 'alerts'.")
        return self._inner.expire_silence(silence_id)


class RestrictedRules(RuleEditor):
    """Lists the rules about queues that may be seen. To change rules, someone has to see all queues."""

    def __init__(self, inner: RuleEditor, visible: VisibleAlerts) -> None:
        self._inner = inner
        self._visible = visible

    def rules_in_force(self) -> tuple[RuleInForce, ...]:
        """As RuleEditor.rules_in_force."""
        return self._visible.rules_of(self._inner.rules_in_force())

    def save_rule(self, *_: object, **__: object) -> NoReturn:
        """Raises Forbidden."""
        _refuse()

    def parse_rule(self, *_: object, **__: object) -> NoReturn:
        """Raises Forbidden."""
        _refuse()

    def delete_rule(self, *_: object, **__: object) -> NoReturn:
        """Raises Forbidden."""
        _refuse()


class NoNotifications(NotificationLog):
    """Shows no notification and sends none: they are about all queues."""

    def __init__(self) -> None:
        """Needs nothing."""

    def list_deliveries(self, most: int = 100) -> tuple[DeliveryAttempt, ...]:  # noqa: ARG002
        """Raises Forbidden."""
        _refuse()

    def list_failed_notifications(self) -> tuple[FailedNotification, ...]:
        """Raises Forbidden."""
        _refuse()

    def resend_failed(self, message_id: str) -> NoReturn:  # noqa: ARG002
        """Raises Forbidden."""
        _refuse()

    def dismiss_failed(self, message_id: str) -> NoReturn:  # noqa: ARG002
        """Raises Forbidden."""
        _refuse()

    def send_test(self, channel: str, *, by: str) -> NoReturn:  # noqa: ARG002
        """Raises Forbidden."""
        _refuse()


def restrict_alerts(
    whole: AlertService, rights: Rights, current_queues: Callable[[], Sequence[QueueStats]]
) -> AlertService:
    """The alert service for someone with these rights; `current_queues`: those that may be seen.

    Its previews and backtests are for all queues: no page of such a person uses them.
    """
    visible = VisibleAlerts(rights, current_queues)
    alerts = whole.alerts.restricted_to(visible)
    if rights.sees_all:  # but may not do the same everywhere
        return replace(
            whole,
            acknowledgements=RestrictedAcknowledgements(whole.acknowledgements, whole.alerts, visible),
            silences=RestrictedSilences(whole.silences, visible),
        )
    return replace(
        whole,
        alerts=alerts,
        past_alerts=whole.past_alerts.restricted_to(visible, alerts),
        acknowledgements=RestrictedAcknowledgements(whole.acknowledgements, alerts, visible),
        silences=RestrictedSilences(whole.silences, visible),
        rules=RestrictedRules(whole.rules, visible),
        notifications=NoNotifications(),
        channels=(),
    )


def _refuse() -> NoReturn:
    raise Forbidden("This is about all queues together, and you may see only some of them.")
