"""Previews whether a rule would fire now, and its figure over the last hour, without writing anything. Pure.

A rule in force is shown as the checker evaluates it: what needs several samples (a reducer, a rate) and the last hour
come from the leader. A draft is evaluated against the sample and, if it has the figure, the sampler's history.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from ...globs import glob_matches
from ...model import Snapshot, Value
from ...sampling.recent_history import History, Point, QueueHistory, Series
from ..rules.figures import Idle
from ..rules.metrics import METRICS
from ..rules.rule import Rule, Severity
from ..silences import Silence
from .checker_context import CheckerContext
from .durations import PersistedDurations
from .evaluator import Evaluator, Observation, observe_figure
from .queue_index import is_in_scope
from .reducers import FigureReducers
from .rule_history import MAX_RULES, POINTS, RuleHistories, figures_mark
from .state_machine import AlertLabels, AlertState

MAX_MATCHES = 20
# How long the leader's observations are valid, and for at least three intervals; they are stored every ten seconds.
OBSERVATIONS_TTL_S = 30.0
HOUR_S = 3600.0
_NO_LABELS = AlertLabels()


# What a preview is based on: the newest sample; the checker's evaluation of the last seconds; or the newest sample with
# the sampler's history, in which each point covers up to a minute.
Basis = Literal["sample", "checker", "history"]


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One subject of a rule. `value` None: unknown, or not applicable now."""

    labels: AlertLabels
    value: float | None
    severity: Severity | None


@dataclass(frozen=True, slots=True)
class RulePreview:
    """What a rule finds now. `beyond`, worst first, holds at most MAX_MATCHES of all `warnings` + `criticals`."""

    beyond: tuple[RuleMatch, ...]
    criticals: int
    warnings: int
    looked_at: int
    unknown: int  # those of them whose figure is unknown
    worst: RuleMatch | None  # beyond a threshold or not; None while no figure is known
    judged: bool  # False: the rule evaluates a time window of which nothing is known here
    basis: Basis = "sample"

    @property
    def count(self) -> int:
        """The number of subjects beyond a threshold."""
        return self.criticals + self.warnings

    @property
    def severity(self) -> Severity | None:
        """The worst severity reached."""
        if self.criticals:
            return Severity.CRITICAL
        return Severity.WARNING if self.warnings else None


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure over the last hour, oldest first, aligned at the end, in `slots` places for the whole hour.

    `note` = how it differs from what the rule evaluates. `since`: when the checker started to evaluate it (seconds
    since 1970); None when that is more than an hour ago, or when the figures are not the checker's.
    """

    points: Series
    note: str | None = None
    slots: int = 0
    since: float | None = None
    envelope: Series | None = None  # the worst over all subjects of the rule, in the same places; None if not stored
    of_all: bool = False  # whether `points` is the envelope too


class RuleObservation(Value, frozen=True, kw_only=True):
    """What the checker found for one rule; `mark` identifies the rule with all its fields."""

    mark: str
    preview: RulePreview


class RuleObservations(Value, frozen=True, kw_only=True):
    """What the checker found for the rules that need several samples, by id; `at` by the store's clock."""

    at: float
    rules: dict[str, RuleObservation]


def build_observations(evaluator: Evaluator, rules: Iterable[Rule], now: float) -> RuleObservations:
    """The findings of the leader's last evaluation for the rules that need several samples."""
    told = [rule for rule in rules if rule.reducer != "last" or METRICS[rule.metric].several][:MAX_RULES]
    return RuleObservations(
        at=now,
        rules={
            rule.id: RuleObservation(
                mark=_rule_mark(rule), preview=_build_preview(rule, evaluator.last_observations(rule), "checker")
            )
            for rule in told
        },
    )


def is_valid(observations: RuleObservations) -> bool:
    """Whether every number is finite: the data comes from a Redis that others can write to."""
    numbers = [observations.at]
    for observation in observations.rules.values():
        matches = (*observation.preview.beyond, *filter(None, (observation.preview.worst,)))
        numbers += [match.value for match in matches if match.value is not None]
    return all(math.isfinite(number) for number in numbers)


def _rule_mark(rule: Rule) -> str:
    return hashlib.sha256(repr(rule).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def preview_rules(
    snapshot: Snapshot,
    history: History,
    rules: Sequence[Rule],
    checker_context: CheckerContext,
    durations: PersistedDurations | None,
    interval_s: float,
    observations: RuleObservations | None = None,
) -> Iterator[tuple[Rule, RulePreview]]:
    """What each rule finds, enabled or disabled. `durations` and `observations` are the checker's."""
    evaluator = Evaluator(interval_s)
    if durations is not None:
        evaluator.durations.restore_durations(durations)
    fresh_s = max(OBSERVATIONS_TTL_S, 3 * interval_s)
    fresh = observations.rules if observations is not None and checker_context.now - observations.at <= fresh_s else {}
    for rule, things in evaluator.observe_rules(snapshot, history, rules, checker_context):
        observation = fresh.get(rule.id)
        if observation is not None and observation.mark == _rule_mark(rule):
            yield rule, observation.preview
        elif rule.reducer == "last":
            yield rule, _build_preview(rule, things, "sample")
        else:
            reduced = _reduce_from_history(rule, things, snapshot, history, checker_context.now)
            yield rule, _build_preview(rule, reduced or things, "history" if reduced else "sample")


def _reduce_from_history(
    rule: Rule, things: Iterable[Observation], snapshot: Snapshot, history: History, now: float
) -> Sequence[Observation] | None:
    """The observations after the rule's reducer over history and newest figure; None without such a history."""
    if rule.metric not in _EXACT_METRICS or not history.last_at:
        return None
    reducers, found = FigureReducers(), []
    down = {source.name for source in snapshot.sources if not source.reachable}
    for each in things:
        if each.labels.source in down:
            found.append(each)
            continue
        kept = sampled_trend(rule, each.labels, snapshot, history)
        series = kept.points if kept else ()
        times = (history.last_at - step * history.step_s for step in reversed(range(len(series))))
        points = ((at, float(point)) for at, point in zip(times, series, strict=True) if point is not None)
        reducers.fill_window(rule, each.labels, points)
        found.append(observe_figure(rule, each.labels, reducers.reduce_figure(rule, each.labels, each.figure, now)))
    return found


def _build_preview(rule: Rule, seen: Sequence[Observation], basis: Basis) -> RulePreview:
    judged = rule.reducer == "last" or basis != "sample"
    beyond = [each for each in seen if each.severity is not None] if judged else []
    criticals = sum(each.severity is Severity.CRITICAL for each in beyond)
    known = [each for each in seen if each.figure is not None and not isinstance(each.figure, Idle)]
    worst = min(known, key=lambda each: _worst_first(rule, each), default=None)
    return RulePreview(
        beyond=tuple(
            _match_from_observation(each)
            for each in sorted(beyond, key=lambda each: _worst_first(rule, each))[:MAX_MATCHES]
        ),
        criticals=criticals,
        warnings=len(beyond) - criticals,
        looked_at=len(seen),
        unknown=sum(each.figure is None for each in seen),
        worst=_match_from_observation(worst) if worst else None,
        judged=judged,
        basis=basis,
    )


def _worst_first(rule: Rule, seen: Observation) -> tuple[bool, float]:
    value = None if isinstance(seen.figure, Idle) else seen.figure
    number = 0.0 if value is None else float(value)
    return seen.severity is not Severity.CRITICAL, -number if rule.worsens_upwards else number


def _match_from_observation(seen: Observation) -> RuleMatch:
    return RuleMatch(seen.labels, None if isinstance(seen.figure, Idle) else seen.figure, seen.severity)


def sampled_trend(rule: Rule, labels: AlertLabels, snapshot: Snapshot, history: History) -> Trend | None:
    """The last hour of a rule's figure at `labels`, from the sampler; None for a metric whose history the sampler does
    not store."""
    found = _memory_trend(rule, labels, snapshot, history) or _queue_trend(rule, labels, snapshot, history)
    if found is None:
        return None
    note = (
        found.note
        if rule.reducer == "last"
        else "each point is a single sample; the rule evaluates a window of samples"
    )
    return Trend(found.points, note, slots=max(len(found.points), round(HOUR_S / history.step_s)))


def rule_trend(
    rule: Rule, worst: RuleMatch | None, snapshot: Snapshot, history: History, histories: RuleHistories | None
) -> Trend | None:
    """The last hour of `worst`, the worst subject of the rule now: as evaluated by the checker, or from the sampler
    where it has the same figure for longer. None when neither stores it."""
    judged = _judged_trend(rule, worst, snapshot.sampled_at, histories)
    if worst is None and rule.scope == "each":
        return judged
    sampled = sampled_trend(rule, worst.labels if worst else _NO_LABELS, snapshot, history)
    if judged is None or sampled is None:
        return judged or sampled
    longer = histories is not None and len(sampled.points) * history.step_s > len(judged.points) * histories.step_s
    if sampled.note is not None or not longer:
        return judged
    return replace(sampled, since=judged.since)


def _judged_trend(rule: Rule, worst: RuleMatch | None, now: float, histories: RuleHistories | None) -> Trend | None:
    """The checker's figures: full minutes, plus the current one. Of several rules with the same figures, such as a copy
    before and after it is stored, the one that has been evaluated the longest counts."""
    if histories is None:
        return None
    name = figures_mark(rule)
    found = min(
        (each for each in histories.rules.values() if each.mark == name), key=lambda each: each.since, default=None
    )
    if found is None:
        return None
    missed = max(0, round((now - histories.at) / histories.step_s) - 1)
    if missed >= POINTS:
        return None
    newest = (*(None,) * missed, worst.value if worst else None)
    lines = (line.points for line in found.lines if worst is not None and line.labels == worst.labels)
    line = next(lines, None)
    envelope = (*found.worst, *newest)
    since = found.since if line is None else max(found.since, histories.at - len(line) * histories.step_s)
    return Trend(
        points=envelope if line is None else (*line, *newest),
        slots=POINTS + 1,
        since=since if now - since < HOUR_S else None,
        envelope=envelope,
        of_all=line is None,
    )


@dataclass(frozen=True, slots=True)
class SilencePreview:
    """What a silence matches: firing and pending alerts, and the rules and the number of queues."""

    alerts: tuple[AlertState, ...]
    rules: tuple[Rule, ...]  # enabled ones
    queues: int
    of_queues: int


def preview_silence(
    silence: Silence, states: Iterable[AlertState], snapshot: Snapshot | None, rules: Iterable[Rule]
) -> SilencePreview:
    """What `silence` matches while it is active, whenever that is."""
    now = silence.starts_at
    anytime = msgspec.structs.replace(silence, weekly=None)
    queues = snapshot.queues if snapshot else ()
    return SilencePreview(
        alerts=tuple(
            state for state in states if anytime.mutes_alert(state.rule_id, state.severity, state.labels, now)
        ),
        rules=tuple(rule for rule in rules if rule.enabled and glob_matches(silence.rule, rule.id)),
        queues=sum(
            glob_matches(silence.source, queue.source)
            and glob_matches(silence.backend, queue.backend)
            and glob_matches(silence.queue, queue.name)
            for queue in queues
        ),
        of_queues=len(queues),
    )


def has_history(metric: str) -> bool:
    """Whether the sampler stores a history of the metric."""
    return metric in _QUEUE_SERIES or metric == "redis.memory_ratio"


def failure_ratios(series: QueueHistory) -> Series:
    """The share of finished jobs that failed, per point; None where no job finished or it is unknown."""
    return tuple(
        None if failed is None or not finished else min(1.0, failed / finished)
        for finished, failed in zip(series.finished_per_min, series.failed_per_min, strict=False)
    )


_QUEUE_SERIES: dict[str, tuple[Callable[[QueueHistory], Series], str | None]] = {
    "queue.depth": (lambda series: series.depth, None),
    "queue.dead": (lambda series: series.dead, None),
    "queue.throughput_per_min": (lambda series: series.finished_per_min, None),
    "queue.error_ratio": (failure_ratios, "each point covers 5 minutes; the rule evaluates 15"),
}
_EXACT_METRICS = {*(name for name, (_, note) in _QUEUE_SERIES.items() if note is None), "redis.memory_ratio"}


def _memory_trend(rule: Rule, labels: AlertLabels, snapshot: Snapshot, history: History) -> Trend | None:
    if rule.metric != "redis.memory_ratio":
        return None
    limit = next((each.health.maxmemory_bytes for each in snapshot.sources if each.name == labels.source), None)
    if not limit:
        return None
    series = history.memory.get(labels.source or "", ())
    return Trend(tuple(None if used is None else used / limit for used in series))


def _queue_trend(rule: Rule, labels: AlertLabels, snapshot: Snapshot, history: History) -> Trend | None:
    if METRICS[rule.metric].subject != "queue" or rule.metric not in _QUEUE_SERIES:
        return None
    take, note = _QUEUE_SERIES[rule.metric]
    if labels != _NO_LABELS:
        series = history.queues.get(f"{labels.source}\0{labels.backend}\0{labels.queue}")
        return Trend(take(series) if series else (), note)
    every = [
        take(series) for queue in snapshot.queues if is_in_scope(rule, queue) and (series := history.history_of(queue))
    ]
    return Trend(_combine_series(every, sum if rule.scope == "sum" else max), note)


def _combine_series(every: Sequence[Series], join: Callable[[Iterable[float]], float]) -> Series:
    longest = max(map(len, every), default=0)
    padded = [(None,) * (longest - len(series)) + tuple(series) for series in every]
    found: list[Point] = []
    for column in zip(*padded, strict=True):
        known = [point for point in column if point is not None]
        found.append(join(known) if known else None)
    return tuple(found)
