"""Which firing alerts are one incident."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertPhase, AlertState
from dashboard.alerts.management.alert_groups import AlertScope, group_alerts
from dashboard.alerts.management.alert_reader import Alert, AlertList
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.alerts.rules.rule import Origin, Rule, Severity, alert_fingerprint
from dashboard.alerts.rules.ruleset import RuleInForce
from tests.counting import calls_of
from tests.unit.alerts.factories import rule

RULES = {each.id: each for each in default_rules()}


def firing(rule_id: str, *, critical: bool = True, value: float = 1.0, at: float = 1.0, **labels: str) -> Alert:
    placed = AlertLabels(**labels)
    severity = Severity.CRITICAL if critical else Severity.WARNING
    of = RULES.get(rule_id)
    state = AlertState(
        fingerprint=alert_fingerprint(rule_id, severity, placed.as_dict()),
        rule_id=rule_id,
        rule_name=of.title if of else rule_id,
        metric=of.metric if of else "queue.depth",
        severity=severity,
        threshold=1.0,
        labels=placed,
        phase=AlertPhase.FIRING,
        value=value,
        started_at=at,
    )
    return Alert(state, None, None, None)


def queue_alert(rule_id: str, name: str, **fields: Any) -> Alert:
    return firing(rule_id, **{"source": "main", "backend": "rq", "queue": name, **fields})


def alert_list(alerts: Iterable[Alert], rules: Iterable[Rule]) -> AlertList:
    return AlertList(0.0, tuple(alerts), (), tuple(RuleInForce(rule, Origin.SHIPPED) for rule in rules))


def grouped(*alerts: Alert, rules: tuple[Rule, ...] = default_rules()) -> list[tuple[str, int, int]]:
    groups = group_alerts(alert_list(alerts, rules)).groups
    return [(group.first.rule_id, len(group.alerts), len(group.effects)) for group in groups]


def test_missing_workers_on_many_queues_are_one_incident_with_their_effects() -> None:
    names = [f"q{n}" for n in range(391)]
    alerts = [queue_alert("queue-no-consumers", name) for name in names]
    alerts += [queue_alert("queue-latency", name) for name in names[:390]]
    alerts += [queue_alert("queue-no-progress", name) for name in names[:2]]
    alerts.append(firing("workers-gone", source="main", backend="rq"))
    assert grouped(*alerts) == [("queue-no-consumers", 391, 393)]


def test_alerts_of_other_rules_libraries_and_sources_are_other_incidents() -> None:
    alerts = [
        queue_alert("queue-no-consumers", "a"),
        queue_alert("queue-no-consumers", "a", backend="bullmq"),
        queue_alert("queue-no-consumers", "a", source="other"),
        queue_alert("queue-latency", "b"),
        queue_alert("queue-dead", "a"),
    ]
    assert sorted(grouped(*alerts)) == [
        ("queue-dead", 1, 0),
        ("queue-latency", 1, 0),
        *[("queue-no-consumers", 1, 0)] * 3,
    ]


def test_a_redis_that_does_not_respond_causes_all_alerts_of_its_source() -> None:
    alerts = [
        queue_alert("queue-no-consumers", "a"),
        queue_alert("queue-latency", "a"),
        firing("redis-memory", source="main"),
        firing("redis-unreachable", source="main"),
        firing("redis-memory", source="other"),
    ]
    assert sorted(grouped(*alerts)) == [("redis-memory", 1, 0), ("redis-unreachable", 1, 3)]
    found = group_alerts(alert_list(alerts, default_rules()))
    (down,) = [group for group in found.groups if group.effects]
    assert down.scopes == (AlertScope("*", "main", None),)
    assert down.count_covered(down.scopes) == len(down.everything)
    assert len(found.inhibited) == 3
    assert len(set(found.keys.values())) == 2


def test_rules_that_inhibit_others_cause_them_and_of_two_the_first_one() -> None:
    rules = (rule(id="a", inhibited_by=["b"]), rule(id="b", inhibited_by=["a"]), rule(id="c", inhibited_by=["a"]))
    alerts = [queue_alert(name, "x") for name in "abc"]
    assert len(grouped(*alerts, rules=rules)) == 1
    found = group_alerts(alert_list(alerts, rules))
    assert len(found.inhibited) == 2
    assert len(grouped(queue_alert("c", "x"), queue_alert("a", "y"), rules=rules)) == 2


def test_the_worst_alert_comes_first_and_a_muted_warning_does_not_count() -> None:
    alerts = [
        queue_alert("queue-latency", "a", critical=False, value=400.0),
        queue_alert("queue-latency", "b", value=2000.0),
        queue_alert("queue-latency", "b", critical=False, value=2000.0),
        queue_alert("queue-latency", "c", value=9000.0),
    ]
    (group,) = group_alerts(alert_list(alerts, default_rules())).groups
    assert [alert.state.labels.queue for alert in group.alerts] == ["c", "b", "a"]
    assert group.severity is Severity.CRITICAL
    assert group.scopes == (AlertScope("queue-latency", "main", "rq"),)


def test_grouping_costs_the_same_for_each_alert() -> None:
    def calls(count: int) -> int:
        alerts = tuple(queue_alert("queue-no-consumers", f"q{n}") for n in range(count))
        alerts += (firing("workers-gone", source="main", backend="rq"),)
        listed = alert_list(alerts, default_rules())
        return calls_of(lambda: group_alerts(listed))

    assert calls(1000) < 12 * calls(100)
