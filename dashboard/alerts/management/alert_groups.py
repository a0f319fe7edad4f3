"""Firing alerts that belong to one incident: of one rule, or with one root cause. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..evaluation.inhibition import order_rules
from ..evaluation.state_machine import AlertLabels, AlertState
from ..evaluation.subjects import UNREACHABLE
from ..rules.rule import Rule, Severity
from .alert_reader import Alert, AlertList

# What follows when no worker serves a queue, besides the rules that say so themselves with `inhibited_by`.
NO_WORKERS = ("queue.consumers", "workers.count")
FOLLOWS_NO_WORKERS = frozenset({"queue.latency_s", "queue.no_progress_s", "queue.overdue_s"})
ALL_RULES = "*"
MAX_CHAIN = 8  # causes of causes that are followed

Place: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class AlertScope:
    """A rule on one library of one source (None: alerts without one). `rule_name` is only for display."""

    rule_id: str
    source: str | None
    backend: str | None
    rule_name: str = field(default="", compare=False)

    @classmethod
    def of(cls, state: AlertState) -> AlertScope:
        """The scope of an alert."""
        return cls(state.rule_id, state.labels.source, state.labels.backend, state.rule_name)

    def covers(self, state: AlertState) -> bool:
        """Whether an alert is in it."""
        return self.rule_id in (ALL_RULES, state.rule_id) and (
            self.source == state.labels.source and (self.rule_id == ALL_RULES or self.backend == state.labels.backend)
        )


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """One incident. `alerts`: those of its rule on one library of one source, at least one; `effects`: alerts of other
    rules that it causes. Both worst first. `key` stays the same while the incident lasts."""

    key: str
    alerts: tuple[Alert, ...]
    effects: tuple[Alert, ...] = ()

    @property
    def everything(self) -> tuple[Alert, ...]:
        """All its alerts, the cause first."""
        return (*self.alerts, *self.effects)

    @property
    def first(self) -> AlertState:
        """Its worst alert."""
        return self.alerts[0].state

    @property
    def severity(self) -> Severity:
        """The worst severity of its alerts."""
        critical = any(alert.state.severity is Severity.CRITICAL for alert in self.everything)
        return Severity.CRITICAL if critical else Severity.WARNING

    @property
    def started_at(self) -> float | None:
        """When the first of its alerts began to fire."""
        return min((at for alert in self.everything if (at := alert.state.started_at) is not None), default=None)

    @property
    def unacknowledged(self) -> tuple[Alert, ...]:
        """The alerts that are not acknowledged, silenced ones included."""
        return tuple(alert for alert in self.everything if alert.ack is None)

    @property
    def silenced(self) -> int:
        """How many alerts are silenced."""
        return sum(alert.silence is not None for alert in self.everything)

    @property
    def effects_by_rule(self) -> list[tuple[str, int]]:
        """(name of the rule, number of alerts) of the effects, most first."""
        return Counter(alert.state.rule_name for alert in self.effects).most_common()

    @property
    def scopes(self) -> tuple[AlertScope, ...]:
        """What covers all its alerts, and those that begin later; every rule on a source that is down."""
        if self.first.metric == UNREACHABLE:
            return (AlertScope(ALL_RULES, self.first.labels.source, None, "All rules"),)
        found = {AlertScope.of(alert.state) for alert in self.everything}
        return tuple(sorted(found, key=lambda scope: (scope.rule_name, scope.rule_id, scope.source or "")))

    def count_covered(self, scopes: Collection[AlertScope]) -> int:
        """How many of its alerts these scopes cover."""
        return sum(any(scope.covers(alert.state) for scope in scopes) for alert in self.everything)


@dataclass(frozen=True, slots=True)
class GroupedAlerts:
    """All firing alerts as groups, worst first. `keys` and `inhibited` are by fingerprint, warnings included that their
    own critical alert mutes; `inhibited`: alerts without notifications, since another firing one suppresses them."""

    groups: tuple[AlertGroup, ...]
    keys: dict[str, str]
    inhibited: frozenset[str]

    def find_group(self, key: str) -> AlertGroup | None:
        """The group with this key; None when none of its alerts is firing."""
        return next((group for group in self.groups if group.key == key), None)


def group_alerts(alert_list: AlertList) -> GroupedAlerts:
    """Group the firing alerts of `alert_list`. Cost: linear in their number."""
    causes = RootCauses([entry.rule for entry in alert_list.rules], [alert.state for alert in alert_list.firing])
    keys = {alert.state.fingerprint: _group_key(causes.find_root(alert.state)) for alert in alert_list.firing}
    members: dict[str, list[Alert]] = {}
    effects: dict[str, list[Alert]] = {}
    for alert in alert_list.incidents:
        key = keys[alert.state.fingerprint]
        own = _group_key(alert.state) == key
        (members if own else effects).setdefault(key, []).append(alert)
    for key in effects.keys() - members.keys():  # the cause is no incident of its own
        members[key] = effects.pop(key)
    groups = [AlertGroup(key, _worst_first(of), _worst_first(effects.get(key, ()))) for key, of in members.items()]
    groups.sort(key=lambda group: (group.severity is not Severity.CRITICAL, group.started_at or 0.0, group.key))
    inhibited = frozenset(
        alert.state.fingerprint for alert in alert_list.firing if causes.find_inhibitor(alert.state) is not None
    )
    return GroupedAlerts(tuple(groups), keys, inhibited)


def _group_key(state: AlertState) -> str:
    parts = (state.rule_id, state.labels.source, state.labels.backend)
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _worst_first(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    return tuple(sorted(alerts, key=_badness))


def _badness(alert: Alert) -> tuple[bool, float, float]:
    """Sorts by severity, by how far the value is beyond its threshold, and then the oldest first."""
    state = alert.state
    excess = 0.0 if state.value is None else abs(state.value - state.threshold) / max(abs(state.threshold), 1.0)
    return state.severity is not Severity.CRITICAL, -excess, state.started_at or 0.0


@dataclass(slots=True)
class _Firing:
    """The firing alerts of one rule, by the places that they are about."""

    exact: dict[Place, AlertState] = field(default_factory=dict)
    within: dict[Place, AlertState] = field(default_factory=dict)  # by each place that contains theirs

    def add_state(self, state: AlertState) -> None:
        place = _place_of(state.labels)
        self.exact.setdefault(place, state)
        for length in range(len(place)):
            self.within.setdefault(place[:length], state)

    def find_overlapping(self, labels: AlertLabels) -> AlertState | None:
        """An alert at this place, at one that contains it, or at one within it."""
        place = _place_of(labels)
        for length in range(len(place), -1, -1):
            if (found := self.exact.get(place[:length])) is not None:
                return found
        return self.within.get(place)


class RootCauses:
    """What causes the firing alerts, as the evaluation inhibits them, and what follows from missing workers."""

    def __init__(self, rules: Sequence[Rule], states: Sequence[AlertState]) -> None:
        ordered = order_rules(rules)
        self._rank = {rule.id: position for position, rule in enumerate(ordered)}
        self._rules = {rule.id: rule for rule in ordered}
        self._down: dict[str | None, AlertState] = {}
        self._by_rule: dict[str, _Firing] = {}
        self._idle = _Firing()
        inhibiting = {name for rule in ordered for name in rule.inhibited_by}
        for state in states:
            if state.metric == UNREACHABLE:
                self._down.setdefault(state.labels.source, state)
            if state.rule_id in inhibiting:
                self._by_rule.setdefault(state.rule_id, _Firing()).add_state(state)
            if state.metric in NO_WORKERS:
                self._idle.add_state(state)

    def find_root(self, state: AlertState) -> AlertState:
        """The alert at the beginning of the chain of causes; the alert itself when nothing causes it."""
        for _ in range(MAX_CHAIN):
            cause = self.find_inhibitor(state) or self._find_missing_workers(state)
            if cause is None:
                break
            state = cause
        return state

    def find_inhibitor(self, state: AlertState) -> AlertState | None:
        """The firing alert that suppresses the notifications of this one."""
        if state.metric != UNREACHABLE and (down := self._down.get(state.labels.source)) is not None:
            return down
        rule = self._rules.get(state.rule_id)
        for name in rule.inhibited_by if rule is not None else ():
            firing = self._by_rule.get(name)
            # Of rules that inhibit each other, the first one notifies.
            if firing is not None and self._rank.get(name, 0) < self._rank[state.rule_id]:
                found = firing.find_overlapping(state.labels)
                if found is not None:
                    return found
        return None

    def _find_missing_workers(self, state: AlertState) -> AlertState | None:
        if state.metric not in FOLLOWS_NO_WORKERS or state.labels.queue is None:
            return None
        return self._idle.find_overlapping(state.labels)


def _place_of(labels: AlertLabels) -> Place:
    """The labels as (source, library, queue), as far as they are set."""
    place: Place = (labels.source, labels.backend, labels.queue)
    while place and place[-1] is None:
        place = place[:-1]
    return place
