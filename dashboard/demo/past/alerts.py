"""The alerts of the demo's past: those that its rules would have raised. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...alerts.evaluation.state_machine import AlertLabels
from ...alerts.notification import HistoryEntry
from ...alerts.rules.default_rules import default_rules
from ...alerts.rules.rule import Severity, alert_fingerprint
from ...history.tiers import HOUR_S
from .queues import FAILED, SLOWED
from .week import CHANGES, FAILED_RATIO, KEPT_DEAD, SLOWER, Past

# How long after the change of a figure its rule fires, and how long after its end it resolves.
UNREACHABLE_S, REACHED_S = 30, 10
FAILING_S, WORKING_S = 420, 360
TOO_MANY_DEAD_S, RETRIED_S = 26 * 60, 2 * HOUR_S + 60
SLOWER_S, FASTER_S = 1800, 960


class StoredAlert(NamedTuple):
    """An alert of the past. `value`: its figure; `began`, `ended`: seconds since 1970."""

    rule_id: str
    severity: Severity
    labels: AlertLabels
    value: float
    began: float
    ended: float


def alert_entries(past: Past, source: str) -> list[HistoryEntry]:
    """The alert history of the past, oldest first."""
    known = {queue.name: queue for queue in past.queues}
    rules = {rule.id: rule for rule in default_rules()}
    found: list[HistoryEntry] = []
    for alert in _alerts(past, source):
        if alert.began < past.start_s or (alert.labels.queue is not None and alert.labels.queue not in known):
            continue
        rule = rules[alert.rule_id]
        fingerprint = alert_fingerprint(rule.id, alert.severity, alert.labels.as_dict())
        for kind, at in (("firing", alert.began), ("resolved", alert.ended)):
            found.append(
                HistoryEntry(
                    kind=kind,
                    episode=f"{fingerprint}-{int(alert.began * 1000):x}",
                    at=at,
                    rule_id=rule.id,
                    rule_name=rule.title,
                    metric=rule.metric,
                    severity=alert.severity,
                    labels=alert.labels,
                    threshold=rule.threshold(alert.severity),
                    value=alert.value if kind == "firing" else 0.0,
                    peak=alert.value,
                    started_at=alert.began,
                    lasted_s=at - alert.began,
                    fingerprint=fingerprint,
                )
            )
    return sorted(found, key=lambda entry: entry.at)


def _alerts(past: Past, source: str) -> Iterator[StoredAlert]:
    warning, server = Severity.WARNING, AlertLabels(source=source)
    failed = AlertLabels(source=source, backend="bullmq", queue=FAILED)
    slowed = AlertLabels(source=source, backend="bullmq", queue=SLOWED)
    of_class = AlertLabels(source=source, backend="bullmq", queue=SLOWED, job_class=CHANGES[SLOWED][0])
    begin_s, end_s = past.outage
    yield StoredAlert(
        "redis-unreachable", Severity.CRITICAL, server, end_s - begin_s, begin_s + UNREACHABLE_S, end_s + REACHED_S
    )
    begin_s, end_s = past.failures
    yield StoredAlert("queue-errors", warning, failed, FAILED_RATIO, begin_s + FAILING_S, end_s + WORKING_S)
    yield StoredAlert("queue-dead", warning, failed, KEPT_DEAD, begin_s + TOO_MANY_DEAD_S, end_s + RETRIED_S)
    begin_s, end_s = past.slowdown
    for rule_id, labels in (("queue-slower", slowed), ("class-slower", of_class)):
        yield StoredAlert(rule_id, warning, labels, SLOWER, begin_s + SLOWER_S, end_s + FASTER_S)
