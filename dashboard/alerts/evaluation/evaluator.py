"""Evaluates all rules over all queues of one sample. Pure: no Redis, no clock.

Most alerts are healthy and stay so, so their path is short: one figure, one comparison.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import msgspec

from ...globs import glob_matches
from ...model import QueueStats, Snapshot
from ...sampling.recent_history import History, key_of
from ..rules.metrics import IDLE, METRICS, AtLeast, Figure, count_library_workers
from ..rules.rule import Rule, Severity
from ..silences import ActiveSilences
from . import state_machine
from .durations import DurationTracker, QueueFacts
from .reducers import FigureReducers
from .rule_history import RuleHistoryRecorder
from .state_machine import AlertLabels, AlertPhase, AlertState, FigureHealth, PendingNotification, StateChange

UNREACHABLE = "redis.unreachable_s"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


@dataclass(frozen=True, slots=True)
class CheckerContext:
    """What the checker knows besides the sample.

    `heartbeat_age_s`: since the last completed evaluation; None before the second one.
    """

    now: float  # by the store's clock
    mutes: ActiveSilences = field(default_factory=ActiveSilences)
    heartbeat_age_s: float | None = None
    undelivered_s: Mapping[str, float] = field(default_factory=dict)  # by channel
    dead_messages: Mapping[str, int] = field(default_factory=dict)  # by channel
    channels: tuple[str, ...] = ()  # ids of the existing ones


class Transition(msgspec.Struct, frozen=True, gc=False):
    """What one tick did to one alert; `before` None = it is new."""

    before: AlertState | None
    after: AlertState
    rule: Rule | None
    changes: tuple[StateChange, ...]
    says: tuple[PendingNotification, ...]

    @property
    def is_significant(self) -> bool:
        """Whether more than the time and the value changed."""
        before, after = self.before, self.after
        return bool(
            before is None
            or self.changes
            or self.says
            or before.phase is not after.phase
            or after.phase is AlertPhase.PENDING
            or before.flapping != after.flapping
            or before.announced != after.announced
            or (before.unknown_s > 0) != (after.unknown_s > 0)
        )


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


@dataclass(frozen=True, slots=True)
class _Subject:
    """One subject of a rule with its figure; `frozen` = it cannot be read now."""

    labels: AlertLabels
    figure: Figure
    frozen: bool = False


class Evaluator:
    """Evaluates one sample after another and keeps durations between them. Not thread-safe."""

    def __init__(self, interval_s: float, memory: DurationTracker | None = None) -> None:
        self.durations = memory or DurationTracker()
        self.interval_s = interval_s
        self.history_recorder = RuleHistoryRecorder(interval_s)
        self._reducers = FigureReducers()
        self._reducers_off = FigureReducers()  # of disabled rules: they take no capacity from enabled ones
        self._ages: dict[str, float] = {}  # how long each queue has been watched
        self._last_now: float | None = None
        self._keys: tuple[str, ...] = ()
        self._labels: list[AlertLabels] = []
        self._facts: list[QueueFacts] = []  # of each queue of the sample
        self._matches: dict[Rule, tuple[list[int], list[AlertLabels]]] = {}

    def settle_queues(self, snapshot: Snapshot, grace_s: float) -> None:
        """Treat the queues of the previous leader's sample as known, so that they skip the settling time."""
        for queue in snapshot.queues:
            self._ages[key_of(queue)] = grace_s

    def evaluate_rules(
        self,
        snapshot: Snapshot,
        history: History,
        rules: Sequence[Rule],
        states: Mapping[str, AlertState],
        situation: CheckerContext,
    ) -> list[Transition]:
        """Evaluate a tick and return one Transition for each alert that is not simply healthy.

        `states` are all stored ones by fingerprint; those whose rule is deleted or disabled are resolved here.
        """
        now = situation.now
        passed = 0.0 if self._last_now is None else min(max(now - self._last_now, 0.0), 2 * self.interval_s)
        self._last_now = now
        self.durations.observe_sample(snapshot, history, now, passed)
        self._index_queues(snapshot.queues, passed)
        self.history_recorder.begin_tick(now)
        run = _TickRun(self, snapshot, situation, states)
        live = _group_states(states.values())
        ordered = order_rules(rules)
        run.inhibiting_rules = {name for rule in ordered for name in rule.inhibited_by}
        for rule in ordered:
            run.evaluate_rule(rule, live.pop(rule.id, {}))
        for leftovers in live.values():
            for known in leftovers.values():
                for state in known:
                    run.resolve_removed(state, "rule deleted")
        for rule in rules:
            if not rule.enabled:
                run.record_rule(rule)
        self._reducers.drop_unused()
        self._reducers_off.drop_unused()
        return run.transitions

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
                    value = None if seen.figure is IDLE else seen.figure
                    found.append(Breach(rule, seen.severity, seen.labels, value))
        return found

    def observe_rules(
        self, snapshot: Snapshot, history: History, rules: Sequence[Rule], situation: CheckerContext
    ) -> Iterator[tuple[Rule, list[Observation]]]:
        """What each rule finds in one sample alone, regardless of how long it has lasted and without reducers."""
        self.durations.observe_sample(snapshot, history, situation.now, 0.0)
        if snapshot.history_version and not history.version:  # the page has the history from its next request on
            for facts in self.durations.queues.values():
                facts.dead_growth_per_h = None
        self._index_queues(snapshot.queues, 0.0)
        self._ages = dict.fromkeys(self._keys, math.inf)
        run = _TickRun(self, snapshot, situation, {})
        for rule in rules:
            yield (
                rule,
                [
                    observe_figure(rule, subject.labels, None if subject.frozen else subject.figure)
                    for subject in run.find_subjects(rule)
                ],
            )

    def last_observations(self, rule: Rule) -> list[Observation]:
        """What a rule, enabled or disabled, found in the last tick, after its reducer."""
        return [observe_figure(rule, labels, figure) for labels, figure in self.history_recorder.last_figures(rule)]

    def _index_queues(self, queues: Sequence[QueueStats], passed: float) -> None:
        keys = tuple(map(key_of, queues))
        if keys != self._keys:
            self._keys = keys
            self._labels = [
                AlertLabels(source=queue.source, backend=queue.backend, queue=queue.name) for queue in queues
            ]
            self._matches = {}
        self._facts = list(map(self.durations.queues.__getitem__, keys))
        ages = self._ages
        self._ages = {key: ages[key] + passed if key in ages else 0.0 for key in keys}

    def match_queues(self, rule: Rule, queues: Sequence[QueueStats]) -> tuple[list[int], list[AlertLabels]]:
        """(positions of the queues in the rule's scope, their labels); cached while queues and rule stay the same."""
        found = self._matches.get(rule)
        if found is None:
            indexes = [index for index, queue in enumerate(queues) if is_in_scope(rule, queue)]
            found = self._matches[rule] = indexes, [self._labels[index] for index in indexes]
        return found

    def queue_figures(self, rule: Rule, queues: Sequence[QueueStats]) -> list[Figure]:
        """The figure of each queue of `match_queues`, before the reducer."""
        take = METRICS[rule.metric].take_queue
        assert take is not None
        indexes, facts, least = self.match_queues(rule, queues)[0], self._facts, rule.needed_events
        if len(indexes) == len(queues):
            return list(map(take, queues, facts, repeat(least)))
        return [take(queues[index], facts[index], least) for index in indexes]

    def reduce_figure(self, rule: Rule, labels: AlertLabels, figure: Figure, now: float) -> Figure:
        """`figure` after the rule's reducer."""
        reducers = self._reducers if rule.enabled else self._reducers_off
        return reducers.reduce_figure(rule, labels, figure, now)

    def is_new(self, index: int, rule: Rule) -> bool:
        """Whether the queue at that position is still in the rule's grace period."""
        return self._ages[self._keys[index]] < rule.new_instance_grace_s

    def queue_labels(self, index: int) -> AlertLabels:
        """The labels of the queue at that position."""
        return self._labels[index]


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


def order_rules(rules: Iterable[Rule]) -> list[Rule]:
    """The enabled rules, each after those that inhibit it, so that one tick does not notify about both.

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


def is_in_scope(rule: Rule, queue: QueueStats) -> bool:
    """Whether the queue is in the rule's scope."""
    return (
        matches_glob(rule.source, queue.source)
        and matches_glob(rule.backend, queue.backend)
        and (not rule.queues or any(glob_matches(glob, queue.name) for glob in rule.queues))
        and not any(glob_matches(glob, queue.name) for glob in rule.queues_not)
    )


def matches_glob(glob: str, name: str) -> bool:
    """Whether a glob matches a name."""
    return glob_matches(glob, name)


class _TickRun:
    """The evaluation of one tick."""

    def __init__(
        self, evaluator: Evaluator, snapshot: Snapshot, situation: CheckerContext, states: Mapping[str, AlertState]
    ) -> None:
        self._evaluator = evaluator
        self._snapshot = snapshot
        self._context = situation
        self._states = states
        self._unreachable_sources = {source.name for source in snapshot.sources if not source.reachable}
        unread = self._unreachable_sources
        self._frozen = [queue.source in unread or queue.error is not None for queue in snapshot.queues]
        self._all_read = not any(self._frozen)
        self._incomplete_sources = {
            source.name for source in snapshot.sources if source.problems or not source.discovered
        }
        self._silenced_sources: set[str | None] = set()  # whose redis.unreachable is firing
        self.inhibiting_rules: set[str] = set()  # ids of rules that inhibit others
        self._firing: dict[str, list[AlertLabels]] = {}  # by inhibiting rule
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

    def _reduce_subjects(self, rule: Rule) -> list[_Subject]:
        """The subjects of a rule with the figures that it compares, recorded in its history."""
        now = self._context.now
        found = [
            _Subject(each.labels, self._evaluator.reduce_figure(rule, each.labels, each.figure, now), each.frozen)
            for each in self.find_subjects(rule)
        ]
        figures = [None if each.frozen else each.figure for each in found]
        self._evaluator.history_recorder.record_figures(rule, [each.labels for each in found], figures)
        return found

    def _reduce_figures(self, rule: Rule) -> list[Figure]:
        """The figures that a rule compares, of every queue in scope, recorded in its history."""
        evaluator, queues, now = self._evaluator, self._snapshot.queues, self._context.now
        indexes, labels = evaluator.match_queues(rule, queues)
        figures = evaluator.queue_figures(rule, queues)
        if rule.reducer != "last":
            figures = [
                evaluator.reduce_figure(rule, each, figure, now) for each, figure in zip(labels, figures, strict=True)
            ]
        known: list[Figure] = figures
        if not self._all_read:
            pairs = zip(indexes, figures, strict=True)
            known = [None if self._frozen[index] else figure for index, figure in pairs]
        evaluator.history_recorder.record_figures(rule, labels, known)
        return figures

    def _evaluate_queues(self, rule: Rule, by_labels: dict[AlertLabels, list[AlertState]]) -> None:
        """Evaluate every queue in scope. For most queues only the first lines of the loop run."""
        evaluator, queues = self._evaluator, self._snapshot.queues
        mildest = rule.threshold(rule.severities[-1])
        beyond = _COMPARE[rule.op]
        careful = rule.no_data == "breach"
        figures = self._reduce_figures(rule)
        for index, figure in zip(evaluator.match_queues(rule, queues)[0], figures, strict=True):
            known: list[AlertState] | None = None
            if by_labels:
                known = by_labels.pop(evaluator.queue_labels(index), None)
            if known is None:
                if figure is None:
                    if not careful:
                        continue
                elif figure is IDLE or not beyond(figure, mildest):
                    continue
                if evaluator.is_new(index, rule):
                    continue
            self._evaluate_instance(
                rule, evaluator.queue_labels(index), figure, known or [], frozen=self._frozen[index]
            )

    def find_subjects(self, rule: Rule) -> Iterator[_Subject]:
        """All subjects of a rule, with the figure of each."""
        metric, situation = METRICS[rule.metric], self._context
        if metric.subject == "queue":
            yield from self._queue_subjects(rule) if rule.scope == "each" else self._aggregate_subject(rule)
        elif metric.subject == "library":
            yield from self._library_subjects(rule)
        elif metric.subject == "source":
            assert metric.take_source is not None
            for source in self._snapshot.sources:
                if not matches_glob(rule.source, source.name):
                    continue
                figure = metric.take_source(source, self._evaluator.durations.sources[source.name])
                frozen = not source.reachable and rule.metric != UNREACHABLE
                yield _Subject(AlertLabels(source=source.name), None if frozen else figure, frozen)
        elif metric.subject == "channel":
            told: Mapping[str, float] = (
                situation.dead_messages if rule.metric == "notify.dead" else situation.undelivered_s
            )
            for channel in situation.channels:
                yield _Subject(AlertLabels(channel=channel), told.get(channel, 0.0))
        else:
            yield _Subject(AlertLabels(), situation.heartbeat_age_s)

    def _queue_subjects(self, rule: Rule) -> Iterator[_Subject]:
        queues = self._snapshot.queues
        indexes, labels = self._evaluator.match_queues(rule, queues)
        figures = self._evaluator.queue_figures(rule, queues)
        for index, each, figure in zip(indexes, labels, figures, strict=True):
            yield _Subject(each, figure, self._frozen[index])

    def _aggregate_subject(self, rule: Rule) -> Iterator[_Subject]:
        """The sum or the maximum over all queues in scope; nothing when there is no such queue.

        It is a lower bound when a queue of a sum, or a whole source, cannot be read now.
        """
        queues = self._snapshot.queues
        indexes, figures = self._evaluator.match_queues(rule, queues)[0], self._evaluator.queue_figures(rule, queues)
        whole = all(
            source.reachable and source.discovered
            for source in self._snapshot.sources
            if matches_glob(rule.source, source.name)
        )
        if whole and not indexes:
            return
        pairs = zip(indexes, figures, strict=True)
        rows = [figure for index, figure in pairs if queues[index].source not in self._unreachable_sources]
        known = [0.0 if figure is IDLE else figure for figure in rows if figure is not None]
        figure: Figure = None
        if known:
            figure = sum(known) if rule.scope == "sum" else max(known)
            unknown = not whole or (rule.scope == "sum" and len(known) < len(rows))
            if unknown or any(isinstance(number, AtLeast) for number in known):
                figure = AtLeast(figure)
        yield _Subject(AlertLabels(), figure, frozen=figure is None and not whole)

    def _library_subjects(self, rule: Rule) -> Iterator[_Subject]:
        groups: dict[tuple[str, str], list[QueueStats]] = {}
        for index in self._evaluator.match_queues(rule, self._snapshot.queues)[0]:
            if not self._evaluator.is_new(index, rule):
                queue = self._snapshot.queues[index]
                groups.setdefault((queue.source, queue.backend), []).append(queue)
        for (source, backend), queues in groups.items():
            frozen = source in self._unreachable_sources
            figure = None if frozen else count_library_workers(queues)
            yield _Subject(AlertLabels(source=source, backend=backend), figure, frozen)

    def _advance_missing(self, rule: Rule, labels: AlertLabels, state: AlertState) -> None:
        """Advance a stored state whose subject is not in the sample, or no longer in the rule's scope."""
        if state.metric == rule.metric and (
            labels.source in self._unreachable_sources or labels.source in self._incomplete_sources
        ):
            interval_s = self._evaluator.interval_s
            self._record_transition(
                rule,
                state,
                state_machine.advance_state(rule, state, FigureHealth.UNKNOWN, None, self._context.now, interval_s),
            )
        elif (
            state.metric != rule.metric
            or state.severity not in rule.severities
            or not self._is_still_in_scope(rule, labels)
        ):
            self.resolve_removed(state, "rule changed")
        else:
            after = state_machine.advance_absent(state, self._context.now, self._evaluator.interval_s)
            self._record_transition(rule, state, after)

    def _is_still_in_scope(self, rule: Rule, labels: AlertLabels) -> bool:
        metric = METRICS[rule.metric]
        if rule.scope != "each":
            return labels == AlertLabels()
        if metric.subject != "queue":
            return labels.queue is None and matches_glob(rule.source, labels.source or "")
        if labels.queue is None:
            return False
        place = QueueStats(source=labels.source or "", backend=labels.backend or "", name=labels.queue, key="")
        return is_in_scope(rule, place)

    def resolve_removed(self, state: AlertState, reason: str) -> None:
        """Resolve a state that no rule evaluates any longer."""
        self._record_transition(None, state, state_machine.resolve_removed(state, self._context.now, reason))

    def _evaluate_instance(
        self, rule: Rule, labels: AlertLabels, figure: Figure, known: list[AlertState], *, frozen: bool
    ) -> None:
        """Evaluate the severities of one subject, the worse one first."""
        worse_fires = False
        severities = rule.severities
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
            state = before or state_machine.create_state(rule, severity, labels, self._context.now)
            moved = state_machine.advance_state(
                rule, state, health, value, self._context.now, self._evaluator.interval_s
            )
            self._record_transition(rule, before, moved, inhibited=worse_fires)
            worse_fires = worse_fires or moved[0].is_active
        for state in known:
            if state.severity not in severities:
                self.resolve_removed(state, "rule changed")

    def _record_transition(
        self,
        rule: Rule | None,
        before: AlertState | None,
        moved: tuple[AlertState, StateChange | None],
        *,
        inhibited: bool = False,
    ) -> None:
        after, change = moved
        situation = self._context
        if rule is not None and after.is_active:
            if rule.id in self.inhibiting_rules:
                self._firing.setdefault(rule.id, []).append(after.labels)
            if rule.metric == UNREACHABLE:
                self._silenced_sources.add(after.labels.source)
        muted = inhibited or (rule is not None and self._is_muted(rule, after))
        after, says = state_machine.notifications_due(
            after,
            situation.now,
            rule=rule,
            muted=muted,
            acked=situation.mutes.is_acknowledged(after),
            channels=self._select_channels(rule, after) if rule else (),
        )
        self.transitions.append(Transition(before, after, rule, (change,) if change else (), says))

    def _select_channels(self, rule: Rule, state: AlertState) -> tuple[str, ...]:
        if state.labels.channel is not None:
            return select_channels(rule, state, self._context.channels)
        key = (rule.id, state.severity)
        found = self._channels.get(key)
        if found is None:
            found = self._channels[key] = select_channels(rule, state, self._context.channels)
        return found

    def _is_muted(self, rule: Rule, state: AlertState) -> bool:
        if rule.metric != UNREACHABLE and state.labels.source in self._silenced_sources:
            return True
        for name in rule.inhibited_by:
            if any(labels.is_compatible(state.labels) for labels in self._firing.get(name, ())):
                return True
        return self._context.mutes.find_silence(rule.id, state.severity, state.labels, self._context.now) is not None


def select_channels(rule: Rule, state: AlertState, existing: Sequence[str]) -> tuple[str, ...]:
    """Ids of the channels to notify about a state. Trouble with a channel is reported on the other ones."""
    wanted: Iterable[str] = rule.severity_channels(Severity(state.severity)) or existing
    found = tuple(channel for channel in wanted if channel in existing)
    if state.labels.channel is None:
        return found
    others = tuple(channel for channel in found if channel != state.labels.channel)
    return others or tuple(channel for channel in existing if channel != state.labels.channel)
