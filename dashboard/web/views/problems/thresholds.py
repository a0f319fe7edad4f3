"""From which figure on a queue or a Redis has a problem: the thresholds of the rules in force. Pure.

The same figure has the same level in an alert, in the list of problems and in the queue table. A metric without an
enabled rule for a queue has the thresholds of its default rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ....alerts.evaluation.queue_index import is_in_scope
from ....alerts.rules.default_rules import default_rules
from ....alerts.rules.rule import Rule, Severity
from ....globs import glob_matches
from ....model import QueueStats, SourceStats
from .problem import ProblemLevel

LEVELS = {Severity.WARNING: ProblemLevel.WARNING, Severity.CRITICAL: ProblemLevel.CRITICAL}
LATENCY = "queue.latency_s"
OVERDUE = "queue.overdue_s"
ERROR_RATIO = "queue.error_ratio"
DEAD = "queue.dead"
DEAD_GROWTH = "queue.dead_growth_per_h"
CONSUMERS = "queue.consumers"
PAUSED = "queue.paused_s"
MEMORY = "redis.memory_ratio"
CLIENTS = "redis.clients_ratio"
EVICTION = "redis.eviction_policy"
PERSISTENCE = "redis.persistence_failed"
METRICS = (LATENCY, OVERDUE, ERROR_RATIO, DEAD, DEAD_GROWTH, CONSUMERS, PAUSED, MEMORY, CLIENTS, EVICTION, PERSISTENCE)
QUEUE_METRICS = (CONSUMERS, LATENCY, OVERDUE, ERROR_RATIO, DEAD, DEAD_GROWTH)
MAX_SCALES = 20_000


class HealthyRanges(NamedTuple):
    """The lowest and the highest value of each of QUEUE_METRICS that no rule calls a problem."""

    consumers: tuple[float, float]
    latency: tuple[float, float]
    overdue: tuple[float, float]
    error_ratio: tuple[float, float]
    dead: tuple[float, float]
    dead_growth: tuple[float, float]


class Scale:
    """The rules that apply to one queue or one Redis."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._limits: dict[str, list[tuple[ProblemLevel, float, float]]] = {}
        for rule in rules:
            limits = self._limits.setdefault(rule.metric, [])
            limits += [(LEVELS[severity], *_healthy_range(rule, severity)) for severity in rule.severities]
        for limits in self._limits.values():
            limits.sort(reverse=True)
        self.healthy = HealthyRanges(*map(self._healthy_range_of, QUEUE_METRICS))

    def _healthy_range_of(self, metric: str) -> tuple[float, float]:
        limits = self._limits.get(metric, ())
        return max((low for _, low, _ in limits), default=-math.inf), min(
            (high for *_, high in limits), default=math.inf
        )

    def level(self, metric: str, value: float | None) -> ProblemLevel:
        """The worst level that `value` reaches; OK when it is unknown."""
        if value is not None and metric in self._limits:
            for level, low, high in self._limits[metric]:
                if not low <= value <= high:
                    return level
        return ProblemLevel.OK

    def has_rule(self, metric: str) -> bool:
        """Whether any rule has this metric."""
        return metric in self._limits


def _healthy_range(rule: Rule, severity: Severity) -> tuple[float, float]:
    """The lowest and the highest value that does not breach the threshold."""
    threshold = rule.threshold(severity)
    if rule.op in ("gt", "ge"):
        return -math.inf, threshold if rule.op == "gt" else math.nextafter(threshold, -math.inf)
    return threshold if rule.op == "lt" else math.nextafter(threshold, math.inf), math.inf


class Thresholds:
    """The scale of each queue and each Redis, for rules that are in force together. Thread-safe.

    `for_all_queues`: the scale of figures over all queues, from the rules that are for all. `all_rules`: as given.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        """`rules`: those in force, enabled or not; rules over several queues and reduced figures are left to alerts."""
        self.all_rules = tuple(rules)
        self._rules = [rule for rule in self.all_rules if rule.enabled and rule.metric in METRICS and _is_plain(rule)]
        self._defaults = {rule.metric: rule for rule in default_rules() if rule.metric in METRICS}
        self.for_all_queues = self._scale([rule for rule in self._rules if _matches_everything(rule)])
        self._common = self._scale(self._rules) if all(map(_matches_everything, self._rules)) else None
        self._scales: dict[tuple[str, str, str], Scale] = {}
        growth = Scale([rule for rule in (*self._rules, *self._defaults.values()) if rule.metric == DEAD_GROWTH])
        low, high = growth.healthy.dead_growth
        # Up to so many dead letters of a queue, however few of them are old, no rule says that they rise.
        self.harmless_dead = high if low <= 0 else -math.inf

    def for_queue(self, queue: QueueStats) -> Scale:
        """The scale of one queue."""
        if self._common is not None:
            return self._common
        key = queue.source, queue.backend, queue.name
        scale = self._scales.get(key)
        if scale is None:
            if len(self._scales) >= MAX_SCALES:
                self._scales.clear()
            scale = self._scales[key] = self._scale([rule for rule in self._rules if is_in_scope(rule, queue)])
        return scale

    def for_source(self, source: SourceStats) -> Scale:
        """The scale of one Redis."""
        return self._common or self._scale([rule for rule in self._rules if glob_matches(rule.source, source.name)])

    def _scale(self, rules: Sequence[Rule]) -> Scale:
        covered = {rule.metric for rule in rules}
        missing: Mapping[str, Rule] = {name: rule for name, rule in self._defaults.items() if name not in covered}
        # Without a rule there is no alert to say for how long a queue has been paused, so no threshold either.
        return Scale([*rules, *(rule for name, rule in missing.items() if name != PAUSED)])


def _is_plain(rule: Rule) -> bool:
    return rule.scope == "each" and rule.reducer == "last"


def _matches_everything(rule: Rule) -> bool:
    globs = (rule.source, rule.backend, *(rule.queues or ("*",)))
    return not rule.queues_not and all(glob == "*" for glob in globs)
