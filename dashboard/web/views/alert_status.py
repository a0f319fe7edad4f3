"""What pages show of alerting: the firing alerts in one line, and the facts for the list of problems. Read once for all
viewers of a process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...alerts.management.alert_reader import Alert, AlertList
from ...alerts.rules.ruleset import RuleInForce
from ...alerts.service import AlertService
from ...errors import BackendUnavailable, Forbidden
from .firing_banner import FiringSummary, summarize_alerts
from .problems.problem_list import NO_ALERTS, AlertFacts
from .problems.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class AlertStatus:
    """`version` changes whenever anything does that pages show of it. `summary` is None while nothing is known: the
    store cannot be read and never was, or alerts are evaluated with other settings. `is_current`: it was just read,
    not recalled. `revision` is that of the alerts."""

    facts: AlertFacts = NO_ALERTS
    summary: FiringSummary | None = None
    version: str = ""
    is_current: bool = False
    revision: str = ""


class AlertStatusReader:
    """Reads the status for one process. Used by one thread at a time."""

    def __init__(self, alert_service: AlertService, *, evaluates: bool) -> None:
        """`evaluates`: whether rules should be evaluated, so that it is a problem if they are not."""
        self._alert_service = alert_service
        self._evaluates = evaluates
        self._thresholds: tuple[tuple[RuleInForce, ...], Thresholds] = ((), Thresholds())

    def read(self) -> AlertStatus:
        """The status now, or as this process read it last. Cost: that of AlertReader.list_alerts."""
        if self._alert_service.ownership.conflict is not None:
            return AlertStatus()
        try:
            alert_list = self._alert_service.alerts.list_or_recall()
        except (BackendUnavailable, Forbidden):
            return AlertStatus()
        shown = (*alert_list.incidents, *alert_list.pending)
        # Nothing is evaluated while the store is down, which the list of problems says itself.
        health = alert_list.health if alert_list.problem is None and self._evaluates else None
        facts = replace(
            AlertFacts.of(self._thresholds_of(alert_list.rules), shown, health),
            rules=alert_list.rules,
            silences=alert_list.silences,
            at=alert_list.at,
        )
        return AlertStatus(
            facts,
            summarize_alerts(alert_list),
            _version_of(alert_list, shown),
            is_current=alert_list.problem is None,
            revision=alert_list.revision,
        )

    def _thresholds_of(self, rules: tuple[RuleInForce, ...]) -> Thresholds:
        if self._thresholds[0] is not rules:
            self._thresholds = rules, Thresholds(entry.rule for entry in rules)
        return self._thresholds[1]


def _version_of(alert_list: AlertList, shown: Sequence[Alert]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    health = alert_list.health
    late_s = round(health.age_s or 0) if health is not None and not health.ok else 0
    digest.update(f"{id(alert_list.rules)} {late_s} {alert_list.problem is None}".encode())
    for alert in shown:
        state = alert.state
        handled = alert.ack.by if alert.ack else alert.silenced_until
        text = (
            f"{state.fingerprint} {state.phase} {state.value} {round(state.unknown_s)} {state.started_at} {handled}\n"
        )
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
