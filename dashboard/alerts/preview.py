"""Would a rule fire now, and what was its figure in the last hour: of one sample, without writing anything. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from dashboard.alerts.evaluate import Evaluator, Seen, Situation, fits, in_scope
from dashboard.alerts.machine import Labels, State
from dashboard.alerts.memory import Kept
from dashboard.alerts.metrics import IDLE, METRICS
from dashboard.alerts.mutes import Silence
from dashboard.alerts.rules import Rule, Severity
from dashboard.collect.history import History, Point, QueueHistory, Series
from dashboard.model import Snapshot

MAX_SPOTS = 20
_NO_LABELS = Labels()


@dataclass(frozen=True, slots=True)
class Spot:
    """One thing that a rule looks at. `value` None: nothing is known, or the question does not arise now."""

    labels: Labels
    value: float | None
    severity: Severity | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule sees now. `beyond`, worst first, are MAX_SPOTS at most of the `warnings` + `criticals` there are."""

    beyond: tuple[Spot, ...]
    criticals: int
    warnings: int
    looked_at: int
    unknown: int  # of them, those whose figure is not known
    worst: Spot | None  # beyond or not; None while no figure is known
    judged: bool  # False: the rule judges a window of time, of which one sample tells nothing

    @property
    def count(self) -> int:
        """How many are beyond a threshold."""
        return self.criticals + self.warnings

    @property
    def severity(self) -> Severity | None:
        """The worst severity that is reached."""
        if self.criticals:
            return Severity.CRITICAL
        return Severity.WARNING if self.warnings else None


@dataclass(frozen=True, slots=True)
class Past:
    """A figure in the last hour, oldest first, aligned at the end; `note` = how it differs from what is judged."""

    points: Series
    note: str | None = None


def previews(
    snapshot: Snapshot,
    history: History,
    rules: Sequence[Rule],
    situation: Situation,
    kept: Kept | None,
    interval_s: float,
) -> Iterator[tuple[Rule, Preview]]:
    """What each rule sees, whether it is on or off. `kept` = what the checker has added up."""
    evaluator = Evaluator(interval_s)
    if kept is not None:
        evaluator.memory.adopt(kept)
    for rule, seen in evaluator.look(snapshot, history, rules, situation):
        yield rule, _preview(rule, seen)


def _preview(rule: Rule, seen: Sequence[Seen]) -> Preview:
    judged = rule.reducer == "last"
    beyond = [each for each in seen if each.severity is not None] if judged else []
    criticals = sum(each.severity is Severity.CRITICAL for each in beyond)
    known = [each for each in seen if each.figure is not None and each.figure is not IDLE]
    worst = min(known, key=lambda each: _rank(rule, each), default=None)
    return Preview(
        beyond=tuple(_spot(each) for each in sorted(beyond, key=lambda each: _rank(rule, each))[:MAX_SPOTS]),
        criticals=criticals,
        warnings=len(beyond) - criticals,
        looked_at=len(seen),
        unknown=sum(each.figure is None for each in seen),
        worst=_spot(worst) if worst else None,
        judged=judged,
    )


def _rank(rule: Rule, seen: Seen) -> tuple[bool, float]:
    value = None if seen.figure is IDLE else seen.figure
    number = 0.0 if value is None else float(value)
    return seen.severity is not Severity.CRITICAL, -number if rule.worsens_upwards else number


def _spot(seen: Seen) -> Spot:
    return Spot(seen.labels, None if seen.figure is IDLE else seen.figure, seen.severity)


def past(rule: Rule, labels: Labels, snapshot: Snapshot, history: History) -> Past | None:
    """The last hour of what the rule sees at `labels`; None for a metric of which no history is kept."""
    found = _of_source(rule, labels, snapshot, history) or _of_queues(rule, labels, snapshot, history)
    if found is None or rule.reducer == "last":
        return found
    return Past(found.points, "each point is one figure, the rule judges a window of them")


@dataclass(frozen=True, slots=True)
class Muted:
    """What a silence matches: alerts that fire or are about to, and how many rules and queues it is about."""

    alerts: tuple[State, ...]
    rules: tuple[Rule, ...]  # switched on
    queues: int
    of_queues: int


def muted(silence: Silence, states: Iterable[State], snapshot: Snapshot | None, rules: Iterable[Rule]) -> Muted:
    """What `silence` would keep quiet while it holds, whenever that is."""
    now = silence.starts_at
    anytime = msgspec.structs.replace(silence, weekly=None)
    queues = snapshot.queues if snapshot else ()
    return Muted(
        alerts=tuple(state for state in states if anytime.mutes(state.rule_id, state.severity, state.labels, now)),
        rules=tuple(rule for rule in rules if rule.enabled and fits(silence.rule, rule.id)),
        queues=sum(
            fits(silence.source, queue.source)
            and fits(silence.backend, queue.backend)
            and fits(silence.queue, queue.name)
            for queue in queues
        ),
        of_queues=len(queues),
    )


def has_past(metric: str) -> bool:
    """Whether a history of the metric is kept."""
    return metric in _QUEUES or metric == "redis.memory_ratio"


def _ratio(series: QueueHistory) -> Series:
    return tuple(
        None if failed is None or not finished else min(1.0, failed / finished)
        for finished, failed in zip(series.finished_per_min, series.failed_per_min, strict=False)
    )


_QUEUES: dict[str, tuple[Callable[[QueueHistory], Series], str | None]] = {
    "queue.depth": (lambda series: series.depth, None),
    "queue.dead": (lambda series: series.dead, None),
    "queue.throughput_per_min": (lambda series: series.finished_per_min, None),
    "queue.error_ratio": (_ratio, "each point is of five minutes, the rule judges fifteen"),
}


def _of_source(rule: Rule, labels: Labels, snapshot: Snapshot, history: History) -> Past | None:
    if rule.metric != "redis.memory_ratio":
        return None
    limit = next((each.health.maxmemory_bytes for each in snapshot.sources if each.name == labels.source), None)
    if not limit:
        return None
    series = history.memory.get(labels.source or "", ())
    return Past(tuple(None if used is None else used / limit for used in series))


def _of_queues(rule: Rule, labels: Labels, snapshot: Snapshot, history: History) -> Past | None:
    if METRICS[rule.metric].subject != "queue" or rule.metric not in _QUEUES:
        return None
    take, note = _QUEUES[rule.metric]
    if labels != _NO_LABELS:
        series = history.queues.get(f"{labels.source}\0{labels.backend}\0{labels.queue}")
        return Past(take(series) if series else (), note)
    every = [take(series) for queue in snapshot.queues if in_scope(rule, queue) and (series := history.of(queue))]
    return Past(_joined(every, sum if rule.scope == "sum" else max), note)


def _joined(every: Sequence[Series], join: Callable[[Iterable[float]], float]) -> Series:
    longest = max(map(len, every), default=0)
    padded = [(None,) * (longest - len(series)) + tuple(series) for series in every]
    found: list[Point] = []
    for column in zip(*padded, strict=True):
        known = [point for point in column if point is not None]
        found.append(join(known) if known else None)
    return tuple(found)
