"""Evaluates all rules over all queues of one sample. Pure: no Redis, no clock.

Most alerts are healthy and stay so, so their path is short: one figure, one comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...history.activity.activities import Activities
from ...history.columns import QUEUE
from ...model import Snapshot
from ...sampling.recent_history import History
from ..rules.figures import AtLeast, Figure, Idle
from ..rules.rule import Rule, Severity
from . import state_machine
from .checker_context import CheckerContext
from .durations import DurationTracker
from .evaluation_run import EvaluationRun, Transition
from .inhibition import Inhibitions, order_rules
from .queue_index import QueueIndex
from .reducers import FigureReducers
from .rule_history import RuleHistoryRecorder
from .state_machine import AlertLabels, AlertState, FigureHealth
from .subjects import SubjectFinder


@dataclass(frozen=True, slots=True)
class Breach:
    """A figure beyond a threshold, regardless of how long it has lasted."""

    rule: Rule
    severity: Severity
    labels: AlertLabels
    value: float | None


@dataclass(frozen=True, slots=True)
class Observation:
    """One subject of a rule: its figure and the worst severity whose threshold it exceeds."""

    labels: AlertLabels
    figure: Figure
    severity: Severity | None


class Evaluator:
    """Evaluates one sample after another and keeps durations between them. Not thread-safe."""

    def __init__(self, interval_s: float, memory: DurationTracker | None = None) -> None:
        self.durations = memory or DurationTracker()
        self.interval_s = interval_s
        self.history_recorder = RuleHistoryRecorder(interval_s)
        self._reducers = FigureReducers()
        self._reducers_off = FigureReducers()  # of disabled rules: they take no capacity from enabled ones
        self._last_now: float | None = None
        self._activities: Activities | None = None  # of the last evaluation
        self._queues = QueueIndex()

    def settle_queues(self, snapshot: Snapshot, grace_s: float) -> None:
        """Treat the queues of the previous leader's sample as known, so that they skip the settling time."""
        self._queues.settle_queues(snapshot.queues, grace_s)

    def evaluate_rules(
        self,
        snapshot: Snapshot,
        history: History,
        rules: Sequence[Rule],
        states: Mapping[str, AlertState],
        checker_context: CheckerContext,
    ) -> list[Transition]:
        """Evaluate one sample and return one Transition for each alert that is not simply healthy.

        `states` are all stored ones by fingerprint; those whose rule is deleted or disabled are resolved here.
        """
        live = _group_states(states.values())
        ordered = order_rules(rules)
        run = self._start_run(snapshot, history, checker_context, Inhibitions(ordered))
        for rule in ordered:
            run.evaluate_rule(rule, live.pop(rule.id, {}))
        disabled = {rule.id for rule in rules if not rule.enabled}
        for rule_id, leftovers in live.items():
            reason = "rule disabled" if rule_id in disabled else "rule deleted"
            for known in leftovers.values():
                for state in known:
                    run.resolve_removed(state, reason)
        for rule in rules:
            if not rule.enabled and not self._is_recorded(rule, checker_context):
                run.record_rule(rule)
        self._activities = checker_context.activities
        self._reducers.drop_unused()
        self._reducers_off.drop_unused()
        return run.transitions

    def _is_recorded(self, rule: Rule, checker_context: CheckerContext) -> bool:
        """Whether the figures of a disabled rule are still those recorded last: thousands of job classes, of which
        something is new once a minute."""
        is_same = checker_context.activities is self._activities
        return rule.metric == "class.activity_ratio" and rule.reducer == "last" and is_same

    def _start_run(
        self, snapshot: Snapshot, history: History, checker_context: CheckerContext, inhibitions: Inhibitions
    ) -> EvaluationRun:
        now = checker_context.now
        passed = 0.0 if self._last_now is None else min(max(now - self._last_now, 0.0), 2 * self.interval_s)
        self._last_now = now
        self.durations.observe_sample(snapshot, history, now, passed)
        self._add_history(checker_context)
        self._queues.load_queues(snapshot.queues, self.durations, passed)
        self.history_recorder.begin_evaluation(now)
        finder = SubjectFinder(snapshot, checker_context, self._queues, self.durations)
        recorder, reduce_figure = self.history_recorder, self._reduce_figure
        return EvaluationRun(
            finder, checker_context, self._queues, recorder, reduce_figure, inhibitions, self.interval_s
        )

    def _add_history(self, checker_context: CheckerContext) -> None:
        """Add what the leader knows from its history to the facts of the queues."""
        queues = self.durations.queues
        for key, run_times in checker_context.run_times.items():
            facts = queues.get(f"{key.source}\0{key.backend}\0{key.name}")
            if facts is not None and key.kind is QUEUE:
                facts.run_times = run_times
        for key, activity in checker_context.activities.queues.items():
            facts = queues.get(f"{key.source}\0{key.backend}\0{key.name}")
            if facts is not None:
                facts.activity = activity

    def find_breaches(self, snapshot: Snapshot, rules: Sequence[Rule]) -> list[Breach]:
        """The breaches that one sample alone shows, by rule, with only the worst severity of each subject.

        For an evaluation without a checker. Rules over a time window, and those whose metric accumulates time, are
        skipped.
        """
        found: list[Breach] = []
        judged = [rule for rule in order_rules(rules) if rule.reducer == "last"]
        for rule, things in self.observe_rules(snapshot, History(), judged, CheckerContext(now=snapshot.sampled_at)):
            for seen in things:
                if seen.severity is not None:
                    value = None if isinstance(seen.figure, Idle) else seen.figure
                    found.append(Breach(rule, seen.severity, seen.labels, value))
        return found

    def observe_rules(
        self, snapshot: Snapshot, history: History, rules: Sequence[Rule], checker_context: CheckerContext
    ) -> Iterator[tuple[Rule, list[Observation]]]:
        """What each rule finds in one sample alone, regardless of how long it has lasted and without reducers."""
        self.durations.observe_sample(snapshot, history, checker_context.now, 0.0)
        if snapshot.history_version and not history.version:  # the page has the history from its next request on
            for facts in self.durations.queues.values():
                facts.dead_growth_per_h = None
        self._queues.load_queues(snapshot.queues, self.durations, 0.0)
        self._queues.end_grace()
        finder = SubjectFinder(snapshot, checker_context, self._queues, self.durations)
        for rule in rules:
            yield (
                rule,
                [
                    observe_figure(rule, subject.labels, None if subject.frozen else subject.figure)
                    for subject in finder.find_subjects(rule)
                ],
            )

    def last_observations(self, rule: Rule) -> list[Observation]:
        """What a rule, enabled or disabled, found in the last evaluation, after its reducer."""
        return [observe_figure(rule, labels, figure) for labels, figure in self.history_recorder.last_figures(rule)]

    def _reduce_figure(self, rule: Rule, labels: AlertLabels, figure: Figure, now: float) -> Figure:
        """`figure` after the rule's reducer."""
        reducers = self._reducers if rule.enabled else self._reducers_off
        return reducers.reduce_figure(rule, labels, figure, now)


def _group_states(states: Iterable[AlertState]) -> dict[str, dict[AlertLabels, list[AlertState]]]:
    found: dict[str, dict[AlertLabels, list[AlertState]]] = {}
    for state in states:
        of_rule = found.get(state.rule_id)
        if of_rule is None:
            of_rule = found[state.rule_id] = {}
        known = of_rule.get(state.labels)
        if known is None:
            of_rule[state.labels] = [state]
        else:
            known.append(state)
    return found


def observe_figure(rule: Rule, labels: AlertLabels, figure: Figure) -> Observation:
    """An already reduced figure as the rule judges it."""
    number = float(figure) if isinstance(figure, AtLeast) else figure
    for severity in rule.severities:
        if state_machine.judge_figure(rule, severity, figure)[0] is FigureHealth.BREACH:
            return Observation(labels, number, severity)
    return Observation(labels, number, None)
