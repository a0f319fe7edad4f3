"""One evaluation: every subject of every rule moves its alerts, stored or new, by one step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

import msgspec

from ...globs import glob_matches
from ..rules.figures import IDLE, NOT_USUAL, PAUSED, Figure
from ..rules.metrics import METRICS
from ..rules.rule import Rule, Severity
from . import state_machine
from .checker_context import CheckerContext
from .due_notifications import DueNotification, record_due_notifications
from .inhibition import Inhibitions
from .queue_index import QueueIndex, is_name_in_scope
from .rule_history import RuleHistoryRecorder
from .state_machine import AlertLabels, AlertPhase, AlertState, FigureHealth, StateChange
from .subjects import Subject, SubjectFinder

# (rule, labels, figure, now) -> the figure after the rule's reducer
ReduceFigure = Callable[[Rule, AlertLabels, Figure, float], Figure]
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


class Transition(msgspec.Struct, frozen=True, gc=False):
    """What one evaluation did to one alert; `before` None = it is new."""

    before: AlertState | None
    after: AlertState
    rule: Rule | None
    changes: tuple[StateChange, ...]
    due_notifications: tuple[DueNotification, ...]

    @property
    def is_significant(self) -> bool:
        """Whether more than the time and the value changed."""
        before, after = self.before, self.after
        return bool(
            before is None
            or self.changes
            or self.due_notifications
            or before.phase is not after.phase
            or after.phase is AlertPhase.PENDING
            or before.flapping != after.flapping
            or before.announced != after.announced
            or (before.unknown_s > 0) != (after.unknown_s > 0)
        )


class EvaluationRun:
    """The evaluation of one sample; `reduce_figure` applies the reducer of a rule."""

    def __init__(
        self,
        subjects: SubjectFinder,
        checker_context: CheckerContext,
        queues: QueueIndex,
        recorder: RuleHistoryRecorder,
        reduce_figure: ReduceFigure,
        inhibitions: Inhibitions,
        interval_s: float,
    ) -> None:
        self._subjects = subjects
        self._checker_context = checker_context
        self._queues = queues
        self._recorder = recorder
        self._reduce_figure = reduce_figure
        self._inhibitions = inhibitions
        self._interval_s = interval_s
        self._all_read = not any(subjects.frozen)
        self._channels: dict[tuple[str, Severity], tuple[str, ...]] = {}  # of rules whose subject is not a channel
        self.transitions: list[Transition] = []

    def evaluate_rule(self, rule: Rule, by_labels: dict[AlertLabels, list[AlertState]]) -> None:
        """Evaluate one rule; `by_labels` = its stored states, which are consumed."""
        if METRICS[rule.metric].subject == "queue" and rule.scope == "each":
            self._evaluate_queues(rule, by_labels)
        else:
            for subject in self._reduce_subjects(rule):
                known = by_labels.pop(subject.labels, [])
                self._evaluate_instance(rule, subject.labels, subject.figure, known, frozen=subject.frozen)
        for labels, states in by_labels.items():
            for state in states:
                self._advance_missing(rule, labels, state)

    def record_rule(self, rule: Rule) -> None:
        """Record the figures of a disabled rule."""
        if METRICS[rule.metric].subject == "queue" and rule.scope == "each":
            self._reduce_figures(rule)
        else:
            self._reduce_subjects(rule)

    def _reduce_subjects(self, rule: Rule) -> list[Subject]:
        """The subjects of a rule with the figures that it compares, recorded in its history."""
        now = self._checker_context.now
        found = [
            Subject(each.labels, self._reduce_figure(rule, each.labels, each.figure, now), each.frozen)
            for each in self._subjects.find_subjects(rule)
        ]
        figures = [None if each.frozen else each.figure for each in found]
        self._recorder.record_figures(rule, [each.labels for each in found], figures)
        return found

    def _reduce_figures(self, rule: Rule) -> list[Figure]:
        """The figures that a rule compares, of every queue in scope, recorded in its history."""
        now = self._checker_context.now
        indexes, labels = self._queues.match_queues(rule)
        figures = self._queues.queue_figures(rule)
        if rule.reducer != "last":
            figures = [
                self._reduce_figure(rule, each, figure, now) for each, figure in zip(labels, figures, strict=True)
            ]
        known: list[Figure] = figures
        if not self._all_read:
            pairs = zip(indexes, figures, strict=True)
            known = [None if self._subjects.frozen[index] else figure for index, figure in pairs]
        self._recorder.record_figures(rule, labels, known)
        return figures

    def _evaluate_queues(self, rule: Rule, by_labels: dict[AlertLabels, list[AlertState]]) -> None:
        """Evaluate every queue in scope. For most queues only the first lines of the loop run."""
        queues = self._queues
        mildest = rule.threshold(rule.severities[-1])
        beyond = _COMPARE[rule.op]
        careful = rule.no_data == "breach"
        figures = self._reduce_figures(rule)
        for index, figure in zip(queues.match_queues(rule)[0], figures, strict=True):
            known: list[AlertState] | None = None
            if by_labels:
                known = by_labels.pop(queues.queue_labels(index), None)
            if known is None:
                if figure is None:
                    if not careful:
                        continue
                elif figure is IDLE or figure is PAUSED or figure is NOT_USUAL or not beyond(figure, mildest):
                    continue
                if queues.is_new(index, rule):
                    continue
            self._evaluate_instance(
                rule, queues.queue_labels(index), figure, known or [], frozen=self._subjects.frozen[index]
            )

    def _advance_missing(self, rule: Rule, labels: AlertLabels, state: AlertState) -> None:
        """Advance a stored state whose subject is not in the sample, or no longer in the rule's scope."""
        if state.metric == rule.metric and self._is_unknown(labels):
            after, change = state_machine.advance_state(
                rule, state, FigureHealth.UNKNOWN, None, self._checker_context.now, self._interval_s
            )
            self._record_transition(rule, state, after, change)
        elif (
            state.metric != rule.metric
            or state.severity not in rule.severities
            or not self._is_still_in_scope(rule, labels)
        ):
            self.resolve_removed(state, "rule changed")
        else:
            after, change = state_machine.advance_absent(state, self._checker_context.now, self._interval_s)
            self._record_transition(rule, state, after, change)

    def _is_unknown(self, labels: AlertLabels) -> bool:
        """Whether the subject may exist although it is not in the sample."""
        if labels.error is not None:
            return self._checker_context.error_groups is None
        read = self._checker_context.schedules
        if labels.schedule is not None and (read is None or (labels.source, labels.backend) in read.unread):
            return True
        return labels.source in self._subjects.unreachable_sources or labels.source in self._subjects.incomplete_sources

    def _is_still_in_scope(self, rule: Rule, labels: AlertLabels) -> bool:
        metric = METRICS[rule.metric]
        if rule.scope != "each":
            return labels == AlertLabels()
        if metric.subject == "error":
            return labels.error is not None
        if metric.subject == "schedule":
            place = (labels.source or "", labels.backend or "", labels.queue or "")
            return labels.schedule is not None and is_name_in_scope(rule, *place)
        if metric.subject == "slo":
            return any(labels.slo == status.slo.id for status in self._checker_context.slos)
        if metric.subject not in ("queue", "class"):
            return labels.queue is None and glob_matches(rule.source, labels.source or "")
        if labels.queue is None or (labels.job_class is None) is (metric.subject == "class"):
            return False
        return is_name_in_scope(rule, labels.source or "", labels.backend or "", labels.queue)

    def resolve_removed(self, state: AlertState, reason: str) -> None:
        """Resolve a state that no rule evaluates any longer."""
        after, change = state_machine.resolve_removed(state, self._checker_context.now, reason)
        self._record_transition(None, state, after, change)

    def _evaluate_instance(
        self, rule: Rule, labels: AlertLabels, figure: Figure, known: list[AlertState], *, frozen: bool
    ) -> None:
        """Evaluate the severities of one subject, the worse one first."""
        worse_fires = False
        severities = rule.severities
        paused = "queue paused" if labels.schedule is None else "paused"
        for severity in severities:
            before = None
            for state in known:
                if state.severity is severity:
                    before = state
            if before is not None and before.metric != rule.metric:
                if before.is_active or before.announced:  # its notifications are in another unit
                    self.resolve_removed(before, "rule changed")
                    continue
                before = state_machine.restart_state(rule, before)
            if frozen and before is None:
                continue
            health, value = (
                (FigureHealth.UNKNOWN, None) if frozen else state_machine.judge_figure(rule, severity, figure)
            )
            if before is None and health is not FigureHealth.BREACH:
                continue
            state = before or state_machine.create_state(rule, severity, labels, self._checker_context.now)
            after, change = state_machine.advance_state(
                rule,
                state,
                health,
                value,
                self._checker_context.now,
                self._interval_s,
                reason=paused if figure is PAUSED else NOT_USUAL.end_reason if figure is NOT_USUAL else None,
            )
            self._record_transition(rule, before, after, change, inhibited=worse_fires)
            worse_fires = worse_fires or after.is_active
        for state in known:
            if state.severity not in severities:
                self.resolve_removed(state, "rule changed")

    def _record_transition(
        self,
        rule: Rule | None,
        before: AlertState | None,
        after: AlertState,
        change: StateChange | None,
        *,
        inhibited: bool = False,
    ) -> None:
        checker_context = self._checker_context
        if rule is not None and after.is_active:
            self._inhibitions.add_firing(rule, after)
        muted = inhibited or (rule is not None and self._is_muted(rule, after))
        after, due_notifications = record_due_notifications(
            after,
            checker_context.now,
            rule=rule,
            muted=muted,
            acked=checker_context.active_silences.is_acknowledged(after),
            channels=self._select_channels(rule, after) if rule else (),
        )
        self.transitions.append(Transition(before, after, rule, (change,) if change else (), due_notifications))

    def _select_channels(self, rule: Rule, state: AlertState) -> tuple[str, ...]:
        if state.labels.channel is not None:
            return select_channels(rule, state, self._checker_context.channels)
        key = (rule.id, state.severity)
        found = self._channels.get(key)
        if found is None:
            found = self._channels[key] = select_channels(rule, state, self._checker_context.channels)
        return found

    def _is_muted(self, rule: Rule, state: AlertState) -> bool:
        if self._inhibitions.is_inhibited(rule, state):
            return True
        checker_context = self._checker_context
        silence = checker_context.active_silences.find_silence(
            rule.id, state.severity, state.labels, checker_context.now
        )
        return silence is not None


def select_channels(rule: Rule, state: AlertState, existing: Sequence[str]) -> tuple[str, ...]:
    """Ids of the channels to notify about a state. Trouble with a channel is reported on the other ones."""
    wanted: Iterable[str] = rule.severity_channels(Severity(state.severity)) or existing
    found = tuple(channel for channel in wanted if channel in existing)
    if state.labels.channel is None:
        return found
    others = tuple(channel for channel in found if channel != state.labels.channel)
    return others or tuple(channel for channel in existing if channel != state.labels.channel)
