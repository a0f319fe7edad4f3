"""The rules that watch a queue, with its figure now and their state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ....alerts.evaluation.durations import QueueFacts
from ....alerts.evaluation.queue_index import is_in_scope
from ....alerts.management.alert_reader import Alert
from ....alerts.rules.figures import AtLeast, Idle
from ....alerts.rules.metrics import METRICS, format_amount
from ....alerts.rules.rule import OPERATOR_WORDS, Rule, Severity
from ....model import QueueStats
from ..problems.alert_problems import status_text
from ..problems.problem_list import AlertFacts

# Durations and growth: one sample does not show them, so only the checker knows them.
_OF_THE_CHECKER = frozenset({"queue.no_progress_s", "queue.paused_s", "queue.dead_growth_per_h"})


@dataclass(frozen=True, slots=True)
class WatchingRule:
    """A rule that watches the queue. `value_text` is the figure now; `value_note` says why `value` is unknown. `state`:
    firing, pending, recovering, breaching (the checker has not evaluated that yet), OK, or not firing (unknown)."""

    rule: Rule
    thresholds: tuple[tuple[Severity, str], ...]
    value: float | None
    value_text: str
    value_note: str | None
    state: str
    alert: Alert | None  # the worst one that fires or is pending
    status: str | None  # who has handled the alert

    @property
    def operator(self) -> str:
        """Which side of the thresholds is worse: above, below."""
        return OPERATOR_WORDS[self.rule.op]

    @property
    def level(self) -> str | None:
        """The severity of the alert; None without one."""
        return self.alert.state.severity.value if self.alert else None


def list_watching_rules(queue: QueueStats, facts: AlertFacts) -> tuple[WatchingRule, ...]:
    """The enabled rules that cover `queue`: those whose alerts fire or are pending first, then as on the Rules page.

    Rules over several queues and about all workers of a library count too. Cost: none.
    """
    rules = (entry.rule for entry in facts.rules if entry.rule.enabled and _covers(entry.rule, queue))
    found = [_describe_rule(rule, queue, _find_alert(rule, queue, facts)) for rule in rules]
    return tuple(sorted(found, key=lambda each: each.alert is None))


def list_own_alerts(queue: QueueStats, facts: AlertFacts) -> Iterator[Alert]:
    """The alerts about `queue` alone that fire or are pending."""
    yield from facts.by_queue.get((queue.source, queue.backend, queue.name), ())


def _covers(rule: Rule, queue: QueueStats) -> bool:
    return METRICS[rule.metric].subject in ("queue", "library") and is_in_scope(rule, queue)


def _find_alert(rule: Rule, queue: QueueStats, facts: AlertFacts) -> Alert | None:
    """The worst alert of `rule` about the queue, or about several queues with it among them."""
    if rule.scope == "each" and METRICS[rule.metric].subject == "queue":
        candidates: Iterable[Alert] = list_own_alerts(queue, facts)
    else:
        candidates = (
            alert
            for alert in facts.alerts
            if alert.state.labels.source in (None, queue.source) and alert.state.labels.backend in (None, queue.backend)
        )
    found = [alert for alert in candidates if alert.state.rule_id == rule.id]
    return min(
        found, key=lambda alert: (not alert.state.is_active, alert.state.severity is Severity.WARNING), default=None
    )


def _describe_rule(rule: Rule, queue: QueueStats, alert: Alert | None) -> WatchingRule:
    value, text, note = _figure_of_alert(rule, alert) if alert else _figure_of_sample(rule, queue)
    unit = METRICS[rule.metric].unit
    return WatchingRule(
        rule=rule,
        thresholds=tuple((each, format_amount(rule.threshold(each), unit, rule.reducer)) for each in rule.severities),
        value=value,
        value_text=text,
        value_note=note,
        state=alert.state.phase.value if alert else _state_of_figure(rule, value, is_known=note is None),
        alert=alert,
        status=status_text(alert) if alert and (alert.ack or alert.silence) else None,
    )


def _state_of_figure(rule: Rule, value: float | None, *, is_known: bool) -> str:
    if value is not None and any(rule.is_breached(severity, value) for severity in rule.severities):
        return "breaching"
    return "OK" if is_known else "not firing"


def _figure_of_alert(rule: Rule, alert: Alert) -> tuple[float | None, str, str | None]:
    state = alert.state
    text = format_amount(state.value_now, METRICS[rule.metric].unit, rule.reducer)
    return state.value_now, text, "the value is unknown now" if state.value_now is None else None


def _figure_of_sample(rule: Rule, queue: QueueStats) -> tuple[float | None, str, str | None]:
    """(value, text, why there is none) of a rule without an alert."""
    metric = METRICS[rule.metric]
    take = metric.take_queue
    if take is None or rule.scope != "each":
        return None, "–", "evaluated over all its queues together: see the rule's page"
    if rule.reducer != "last":
        return None, "–", "evaluated over a time window: see the rule's page"
    if rule.metric == "queue.paused_s" and queue.paused is False:
        return 0.0, "not paused", None
    figure = take(queue, QueueFacts(), rule.needed_events)
    if isinstance(figure, Idle):
        return None, figure.value, None
    if figure is None:
        note = "only available on the rule's page" if rule.metric in _OF_THE_CHECKER else "unknown now"
        return None, "–", queue.error or note
    text = format_amount(float(figure), metric.unit)
    return float(figure), f"{text}+" if isinstance(figure, AtLeast) else text, None
