"""When a rule would have fired in the last hour, estimated from one figure per minute or less. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ...globs import glob_matches
from ...model import Snapshot
from ...sampling.recent_history import History, Series
from ..rules.metrics import METRICS
from ..rules.rule import Rule, Severity
from .preview import has_history, sampled_trend
from .queue_index import is_in_scope
from .rule_history import RuleHistories, figures_mark
from .state_machine import AlertLabels, advance_state, create_state, judge_figure

MAX_SUBJECTS = 200  # replayed; the worst ones
MAX_FIRINGS = 5  # listed


@dataclass(frozen=True, slots=True)
class SubjectHistories:
    """The last hour of what a rule covers: per subject, or `of_worst` in one series for all of them.

    Oldest first, `step_s` apart; the newest point is of `last_at`, in seconds since 1970. `note`: how the figures
    differ from those that the rule evaluates.
    """

    series: tuple[tuple[AlertLabels, Series], ...]
    step_s: float
    last_at: float
    of_worst: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class PastFiring:
    """One alert that would have fired, `at` seconds since 1970. `lasted_s` None: it would still be firing."""

    severity: Severity
    labels: AlertLabels
    at: float
    lasted_s: float | None
    value: float | None


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a rule would have done. `firings`, newest first, holds at most MAX_FIRINGS of all `warnings` + `criticals`.

    `is_least`: only the worst MAX_SUBJECTS were replayed. `covered_s`: how far back figures go.
    """

    firings: tuple[PastFiring, ...]
    criticals: int
    warnings: int
    covered_s: float
    is_least: bool = False
    of_worst: bool = False
    note: str | None = None

    @property
    def count(self) -> int:
        """The number of alerts that would have fired."""
        return self.criticals + self.warnings


def subject_histories(
    rule: Rule, snapshot: Snapshot, history: History, histories: RuleHistories | None
) -> SubjectHistories | None:
    """The last hour of everything that the rule covers; None where nothing stores it.

    The sampler has every subject, the checker only the worst and what is worst of all.
    """
    sampled = _sampled_histories(rule, snapshot, history)
    if sampled is not None and sampled.note is None:
        return sampled
    return _judged_histories(rule, snapshot, histories) or sampled


def replay_rule(rule: Rule, hours: SubjectHistories) -> Backtest:
    """The alerts that the rule would have fired, judged as the checker judges them, with one sample per step.

    `min_samples` does not count, since a step covers several samples, and unknown figures never count as a breach.
    Takes up to 0.1 s, for 200 subjects that flap.
    """
    draft = replace(rule, min_samples=1, no_data="keep", version=1)
    breaching = [each for each in hours.series if is_ever_breached(draft, each[1])]
    breaching.sort(key=lambda each: _extreme(draft, each[1]), reverse=draft.worsens_upwards)
    found = [
        firing
        for labels, points in breaching[:MAX_SUBJECTS]
        for firing in replay_points({hours.step_s: draft}, labels, _hour_slots(hours, len(points)), points)
    ]
    criticals = sum(firing.severity is Severity.CRITICAL for firing in found)
    found.sort(key=lambda firing: (firing.at, firing.severity is Severity.CRITICAL), reverse=True)
    longest = max((_known_length(points) for _, points in hours.series), default=0)
    return Backtest(
        firings=tuple(found[:MAX_FIRINGS]),
        criticals=criticals,
        warnings=len(found) - criticals,
        covered_s=longest * hours.step_s,
        is_least=len(breaching) > MAX_SUBJECTS,
        of_worst=hours.of_worst,
        note=hours.note,
    )


def worst_series(rule: Rule, hours: SubjectHistories, most: int) -> list[tuple[AlertLabels, Series]]:
    """The series with the worst points, worst first; those without any known point are left out."""
    known = [each for each in hours.series if any(point is not None for point in each[1])]
    return sorted(known, key=lambda each: _extreme(rule, each[1]), reverse=rule.worsens_upwards)[:most]


def covered_labels(rule: Rule, snapshot: Snapshot) -> list[AlertLabels]:
    """What a rule on queues or Redis covers in this sample; one without labels for a sum or maximum of queues."""
    if METRICS[rule.metric].subject == "source":
        names = (source.name for source in snapshot.sources)
        return [AlertLabels(source=name) for name in names if glob_matches(rule.source, name)]
    if METRICS[rule.metric].subject != "queue":
        return []
    if rule.scope != "each":
        return [AlertLabels()]
    return [
        AlertLabels(source=queue.source, backend=queue.backend, queue=queue.name)
        for queue in snapshot.queues
        if is_in_scope(rule, queue)
    ]


def _sampled_histories(rule: Rule, snapshot: Snapshot, history: History) -> SubjectHistories | None:
    if rule.reducer != "last" or not has_history(rule.metric) or not history.last_at:
        return None
    found: list[tuple[AlertLabels, Series]] = []
    note = None
    for labels in covered_labels(rule, snapshot):
        trend = sampled_trend(rule, labels, snapshot, history)
        if trend is not None:
            note = trend.note
            found.append((labels, trend.points))
    return SubjectHistories(tuple(found), history.step_s, history.last_at, note=note) if found else None


def _judged_histories(rule: Rule, snapshot: Snapshot, histories: RuleHistories | None) -> SubjectHistories | None:
    if histories is None:
        return None
    mark = figures_mark(rule)
    same = [each for each in histories.rules.values() if each.mark == mark]
    if not same:
        return None
    found = min(same, key=lambda each: each.since)
    covered = covered_labels(rule, snapshot)
    lines = tuple((line.labels, line.points) for line in found.lines)
    if lines and covered and len(lines) >= len(covered):
        return SubjectHistories(lines, histories.step_s, histories.at)
    return SubjectHistories(((AlertLabels(), found.worst),), histories.step_s, histories.at, of_worst=True)


def is_ever_breached(rule: Rule, points: Series) -> bool:
    """Whether a point is beyond a threshold."""
    return any(
        point is not None and rule.is_breached(severity, point) for point in points for severity in rule.severities
    )


def _extreme(rule: Rule, points: Iterable[float | None]) -> float:
    return (max if rule.worsens_upwards else min)(point for point in points if point is not None)


def _hour_slots(hours: SubjectHistories, count: int) -> list[tuple[float, float]]:
    return [(hours.last_at - place * hours.step_s, hours.step_s) for place in reversed(range(count))]


def _known_length(points: Series) -> int:
    first = next((place for place, point in enumerate(points) if point is not None), len(points))
    return len(points) - first


def replay_points(
    rules: Mapping[float, Rule],
    labels: AlertLabels,
    slots: Iterable[tuple[float, float]],
    points: Sequence[float | None],
) -> Iterator[PastFiring]:
    """The alerts of one subject, of both severities. `slots`: when each point was, and how long it stands, in seconds;
    `rules`: the rule by that length."""
    timeline = [(at, step_s, point) for (at, step_s), point in zip(slots, points, strict=True)]
    if not timeline:
        return
    first = rules[timeline[0][1]]
    for severity in first.severities:
        state = create_state(first, severity, labels, timeline[0][0])
        fired: PastFiring | None = None
        for now, step_s, point in timeline:
            rule = rules[step_s]
            health, value = judge_figure(rule, severity, point)
            state, change = advance_state(rule, state, health, value, now, step_s)
            if change is None:
                continue
            if change.kind == "firing":
                fired = PastFiring(severity, labels, now, None, value)
                continue
            if fired is not None:
                yield PastFiring(severity, labels, fired.at, now - fired.at, fired.value)
            fired = None
        if fired is not None:
            yield fired
