"""Which firing alerts suppress the notifications of others within one evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from ..rules.rule import Rule
from .state_machine import AlertLabels, AlertState
from .subjects import UNREACHABLE


def order_rules(rules: Iterable[Rule]) -> list[Rule]:
    """The enabled rules, each after those that inhibit it, so that one evaluation does not notify about both.

    Of rules that inhibit each other, the first one notifies.
    """
    on = sorted((rule for rule in rules if rule.enabled), key=lambda rule: rule.metric != UNREACHABLE)
    by_id = {rule.id: rule for rule in on}
    ordered: dict[str, Rule] = {}
    begun: set[str] = set()
    waiting = [(rule, False) for rule in reversed(on)]
    while waiting:
        rule, is_ready = waiting.pop()
        if is_ready:
            ordered.setdefault(rule.id, rule)
        elif rule.id not in begun:
            begun.add(rule.id)
            waiting.append((rule, True))
            waiting += [(by_id[name], False) for name in reversed(rule.inhibited_by) if name in by_id]
    return list(ordered.values())


class Inhibitions:
    """What the alerts that fire in one evaluation suppress; `rules` in the order of order_rules."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._inhibiting_rules = {name for rule in rules for name in rule.inhibited_by}
        self._silenced_sources: set[str | None] = set()  # whose redis.unreachable is firing
        self._firing: dict[str, list[AlertLabels]] = {}  # by inhibiting rule

    def add_firing(self, rule: Rule, state: AlertState) -> None:
        """Note that an alert is firing."""
        if rule.id in self._inhibiting_rules:
            self._firing.setdefault(rule.id, []).append(state.labels)
        if rule.metric == UNREACHABLE:
            self._silenced_sources.add(state.labels.source)

    def is_inhibited(self, rule: Rule, state: AlertState) -> bool:
        """Whether an alert that fires in this evaluation suppresses this one."""
        if rule.metric != UNREACHABLE and state.labels.source in self._silenced_sources:
            return True
        for name in rule.inhibited_by:
            if any(labels.is_compatible(state.labels) for labels in self._firing.get(name, ())):
                return True
        return False
