"""The one list of what is wrong: the problems that alerts report, and those that the sample shows before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ....actions.pauses import RecordedPauses
from ....alerts.management.alert_reader import Alert
from ....alerts.management.checker_health import CheckerHealth
from ....alerts.rules.ruleset import RuleInForce
from ....alerts.silences import Silence
from ....model import QueueStats, Snapshot
from ....units import format_number
from ...formatting import duration
from .alert_problems import alerts_by_queue, problem_of
from .checks import check_queue, check_source
from .problem import Problem, ProblemKind, ProblemLevel, rank_of
from .thresholds import Thresholds

QueueKey = tuple[str, str, str]
# From this number of queues with the same problem on, they are one line.
GROUPED_FROM = 4
# A checker that starts or hands over is late for some seconds, which is no problem yet.
LATE_AFTER_S = 15.0


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """What pages need to know of alerting. `health` is None while it is unknown or none of ours. `at`: when it was
    read, in seconds since 1970 by the store's clock; None while nothing is known."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    alerts: tuple[Alert, ...] = ()  # firing and pending, without inhibited warnings
    health: CheckerHealth | None = None
    by_queue: Mapping[QueueKey, Sequence[Alert]] = field(default_factory=dict)
    pauses: RecordedPauses | None = None  # None while they cannot be read
    rules: tuple[RuleInForce, ...] = ()
    silences: tuple[Silence, ...] = ()  # those stored, ended ones too
    at: float | None = None

    @classmethod
    def of(cls, thresholds: Thresholds, alerts: Iterable[Alert], health: CheckerHealth | None) -> AlertFacts:
        """The facts with the alerts sorted by queue."""
        known = tuple(alerts)
        return cls(thresholds, known, health, alerts_by_queue(known))


NO_ALERTS = AlertFacts()


@dataclass(frozen=True, slots=True)
class ProblemLine:
    """One line of the list. `queues` > 1: so many queues have this problem, and `problem` is the worst of them."""

    problem: Problem
    queues: int = 1

    @property
    def count_text(self) -> str:
        """How many queues, as text."""
        return f"{format_number(self.queues)} queues"


def list_queue_problems(queue: QueueStats, facts: AlertFacts, dead_more: int = 0) -> tuple[Problem, ...]:
    """The problems of one queue, worst first: those of its alerts, and what its figures show beside them."""
    found = check_queue(queue, facts.thresholds.for_queue(queue), dead_more)
    alerts = facts.by_queue.get((queue.source, queue.backend, queue.name)) if facts.by_queue else None
    if not alerts:
        return found
    reported = [problem_of(alert, queue, facts.pauses) for alert in alerts]
    return tuple(sorted(_merge(reported, found), key=rank_of))


def list_problems(
    snapshot: Snapshot, problems_by_queue: Sequence[Sequence[Problem]], facts: AlertFacts
) -> list[Problem]:
    """All problems, worst first; `problems_by_queue` in the order of the snapshot.

    An unreachable source hides the alerts about its queues, and a library without workers those of its queues that
    report the same.
    """
    down = {source.name for source in snapshot.sources if not source.reachable}
    elsewhere = [problem_of(alert, None) for alert in _beside_queues(facts, snapshot)]
    idle = {
        (each.source, each.backend)
        for each in elsewhere
        if each.kind is ProblemKind.NO_WORKER and each.is_whole_library
    }
    found = _merge(elsewhere, [*_of_sources(snapshot, facts), *_of_alerting(facts.health)])
    found = [each for each in found if each.source not in down or each.kind in _OF_A_DOWN_SOURCE]
    for queue, problems in zip(snapshot.queues, problems_by_queue, strict=True):
        if problems:
            covered = (queue.source, queue.backend) in idle
            found.extend(each for each in problems if not (covered and each.kind is ProblemKind.NO_WORKER))
    return sorted(found, key=rank_of)


_OF_A_DOWN_SOURCE = frozenset({ProblemKind.UNREACHABLE, ProblemKind.REFUSING})


def _beside_queues(facts: AlertFacts, snapshot: Snapshot) -> Iterable[Alert]:
    """The alerts that are not about one queue of the sample."""
    if not facts.alerts:
        return ()
    present = {(queue.source, queue.backend, queue.name) for queue in snapshot.queues}
    gone = [alert for key, alerts in facts.by_queue.items() if key not in present for alert in alerts]
    return [*(alert for alert in facts.alerts if not _is_about_one_queue(alert)), *gone]


def _is_about_one_queue(alert: Alert) -> bool:
    labels = alert.state.labels
    return bool(labels.source and labels.backend and labels.queue)


def _of_sources(snapshot: Snapshot, facts: AlertFacts) -> Iterable[Problem]:
    for source in snapshot.sources:
        yield from check_source(source, facts.thresholds.for_source(source), snapshot.sampled_at)


def _of_alerting(health: CheckerHealth | None) -> Iterable[Problem]:
    """That no rules are evaluated, which no alert can report."""
    if health is not None and health.age_s is not None and not health.ok and health.age_s >= LATE_AFTER_S:
        yield Problem(
            level=ProblemLevel.CRITICAL,
            rank=(-ProblemLevel.CRITICAL, -1e8),
            kind=ProblemKind.ALERTING,
            describe=_not_evaluated_text,
            figure=health.age_s,
        )


def _not_evaluated_text(age_s: float) -> str:
    return f"rules were last evaluated {duration(age_s)} ago; check that a checker is running"


def _merge(reported: Iterable[Problem], shown: Iterable[Problem]) -> list[Problem]:
    """The problems that alerts report, one per kind and place, and those that the sample shows beside them.

    Where both have the same, they are one: with the newer figure of the sample, which also explains what alerts do
    not, and with the worse level.
    """
    found: dict[tuple[str, ...], Problem] = {}
    for problem in sorted(reported, key=rank_of):
        found.setdefault(_place_of(problem), problem)
    beside = []
    for problem in shown:
        same = found.get(_place_of(problem)) or _other_of_dead_letters(found, problem)
        if same is None:
            beside.append(problem)
        elif same.kind is problem.kind:
            found[_place_of(problem)] = _refresh(same, problem)
    return [*found.values(), *beside]


def _other_of_dead_letters(found: Mapping[tuple[str, ...], Problem], problem: Problem) -> Problem | None:
    """The reported problem about how many dead letters there are, if `problem` is about how fast they rise."""
    if problem.kind not in _DEAD_LETTERS:
        return None
    places = (_place_of(replace(problem, kind=kind)) for kind in _DEAD_LETTERS)
    return next((found[place] for place in places if place in found), None)


_DEAD_LETTERS = (ProblemKind.DEAD_LETTERS, ProblemKind.RISING)


def _refresh(reported: Problem, shown: Problem) -> Problem:
    worse = shown.level > reported.level
    level, rank = (shown.level, shown.rank) if worse else (reported.level, reported.rank)
    return replace(reported, level=level, rank=rank, describe=shown.describe, figure=shown.figure)


def _place_of(problem: Problem) -> tuple[str, ...]:
    if problem.queue is not None:
        return (problem.kind, problem.queue.key)
    return (
        problem.kind,
        problem.source or "",
        problem.backend or "",
        problem.error_group or problem.schedule or problem.slo or problem.place,
    )


def group_problems(problems: Iterable[Problem]) -> list[ProblemLine]:
    """The lines of the list, in the order of their worst problem: many queues with the same problem are one line."""
    groups: dict[tuple[object, ...], list[Problem]] = {}
    for position, problem in enumerate(problems):
        same = (problem.kind, problem.level, _is_open(problem)) if problem.queue is not None else (position,)
        groups.setdefault(same, []).append(problem)
    lines = []
    for members in groups.values():
        if len(members) >= GROUPED_FROM:
            lines.append(ProblemLine(_without_status(members), len(members)))
        else:
            lines.extend(ProblemLine(problem) for problem in members)
    return sorted(lines, key=lambda line: rank_of(line.problem))


def _without_status(members: Sequence[Problem]) -> Problem:
    """The worst of them; with the status of its alert only if all have the same."""
    first = members[0]
    statuses = {each.alert.status if each.alert else None for each in members}
    if first.alert is None or len(statuses) == 1:
        return first
    return replace(first, alert=replace(first.alert, status=None))


def _is_open(problem: Problem) -> bool:
    return problem.alert is None or not problem.alert.handled
