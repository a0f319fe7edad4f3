"""Current problems, worst first. Pure: figures in, texts out. They also order the queue table.

These checks need no configuration. None (unknown) is never a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import Any

from ...model import QueueStats, RedisHealth, Snapshot, SourceStats, Value
from ...sampling.recent_history import History, Point
from ...units import format_number, format_percent
from ..formatting import duration

# Age of the oldest waiting job: in a healthy queue, workers pick up jobs within a minute.
LATENCY_WARNING_S = 60.0
LATENCY_CRITICAL_S = 900.0
OVERDUE_WARNING_S = 60.0
ERROR_WARNING_RATIO = 0.10
ERROR_CRITICAL_RATIO = 0.50
# With fewer finished jobs in the 5 minutes of the ratio, a single failure means little.
ERROR_MIN_JOBS = 10
MEMORY_WARNING_RATIO = 0.75
MEMORY_CRITICAL_RATIO = 0.90
CLIENTS_WARNING_RATIO = 0.90
# Dead letters are rising when there are more than this long ago.
GROWTH_WINDOW_S = 900


class ProblemLevel(IntEnum):
    """Severity of a problem; higher is worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The level in lower case."""
        return self.name.lower()


class ProblemKind(StrEnum):
    """What kind of problem it is; the value is its label on pages."""

    UNREACHABLE = "unreachable"
    UNREADABLE = "unreadable"
    MEMORY = "memory"
    EVICTION = "eviction"
    PERSISTENCE = "persistence"
    CONNECTIONS = "connections"
    NO_WORKER = "no worker"
    PAUSED = "paused"
    LATENCY = "high latency"
    OVERDUE = "overdue"
    FAILING = "failing"
    DEAD_LETTERS = "dead letters rising"


class Problem(Value, frozen=True, kw_only=True, gc=False):
    """One problem. `rank` sorts the worst first, then by weight.

    Only the few problems on the page need a text, out of thousands: `describe` builds it from `figure`.
    """

    level: ProblemLevel
    rank: tuple[int, float]
    kind: ProblemKind
    describe: Callable[[Any], str]
    figure: Any
    queue: QueueStats | None = None
    source: str | None = None

    @property
    def text(self) -> str:
        """The details, as a phrase to show next to the label of `kind` and the name of the queue or source."""
        return self.describe(self.figure)


def of_snapshot(snapshot: Snapshot, history: History) -> list[Problem]:
    """All problems of all sources and queues, worst first. An unreachable source hides those of its queues."""
    return worst_of_snapshot(snapshot, [of_queue(queue, dead_growth(queue, history)) for queue in snapshot.queues])


def worst_of_snapshot(snapshot: Snapshot, problems_by_queue: Sequence[Sequence[Problem]]) -> list[Problem]:
    """The same as `of_snapshot`, given the problems of each queue in the order of the snapshot."""
    down = {source.name for source in snapshot.sources if not source.reachable}
    found = [problem for source in snapshot.sources for problem in of_source(source, snapshot.sampled_at)]
    for queue, problems in zip(snapshot.queues, problems_by_queue, strict=True):
        if problems and queue.source not in down:
            found.extend(problems)
    return sorted(found, key=_rank_of)


def of_source(source: SourceStats, now: float) -> list[Problem]:
    """The problems of one Redis, worst first; `now` in seconds since 1970."""
    if not source.reachable:
        since = source.unreachable_since
        ago = f" for {duration(max(0.0, now - since))}" if since is not None and now - since >= 1 else ""
        text = f"Redis cannot be read{ago}: {source.error or 'not responding'}"
        return [_source_problem(source, ProblemLevel.CRITICAL, 1e9, ProblemKind.UNREACHABLE, text)]
    found = [_source_problem(source, *problem) for problem in _health_problems(source.health)]
    found += [
        _source_problem(source, ProblemLevel.WARNING, 4e5, ProblemKind.UNREADABLE, why) for why in source.problems
    ]
    return sorted(found, key=_rank_of)


def _source_problem(source: SourceStats, level: ProblemLevel, weight: float, kind: ProblemKind, text: str) -> Problem:
    return Problem(level=level, rank=(-level, -weight), kind=kind, describe=str, figure=text, source=source.name)


def _health_problems(health: RedisHealth) -> Iterator[tuple[ProblemLevel, float, ProblemKind, str]]:
    """Level, weight, kind and text of each problem that a reachable Redis reports."""
    ratio = health.memory_ratio
    if ratio is not None and ratio >= MEMORY_WARNING_RATIO:
        level = ProblemLevel.CRITICAL if ratio >= MEMORY_CRITICAL_RATIO else ProblemLevel.WARNING
        yield level, ratio * 1e6, ProblemKind.MEMORY, f"{format_percent(ratio)} of maxmemory used"
    if health.memory_limited and health.eviction_policy not in (None, "noeviction"):
        text = f"Redis may evict jobs: its policy is {health.eviction_policy}"
        yield ProblemLevel.WARNING, 1e5, ProblemKind.EVICTION, text
    if health.persistence_ok is False:
        yield ProblemLevel.WARNING, 2e5, ProblemKind.PERSISTENCE, "Redis failed to save its data to disk"
    if health.clients and health.max_clients and health.clients >= CLIENTS_WARNING_RATIO * health.max_clients:
        text = f"{format_number(health.clients)} of {format_number(health.max_clients)} connections in use"
        yield ProblemLevel.WARNING, 3e5, ProblemKind.CONNECTIONS, text


def of_queue(queue: QueueStats, dead_more: int = 0) -> tuple[Problem, ...]:
    """The problems of one queue, worst first; `dead_more` = by how many its dead letters rose lately."""
    found: list[Problem] = []
    waiting, latency_s, paused = queue.depth, queue.latency_s, queue.paused
    if queue.error is not None:
        found.append(_build_problem(queue, ProblemLevel.CRITICAL, 1e6, ProblemKind.UNREADABLE, str, queue.error))
    if waiting and queue.workers == 0 and not paused:
        found.append(
            _build_problem(queue, ProblemLevel.CRITICAL, 1e5 + waiting, ProblemKind.NO_WORKER, _waiting_text, waiting)
        )
    elif waiting and paused:
        found.append(
            _build_problem(queue, ProblemLevel.WARNING, 1e5 + waiting, ProblemKind.PAUSED, _waiting_text, waiting)
        )
    elif latency_s is not None and latency_s >= LATENCY_WARNING_S:
        level = ProblemLevel.CRITICAL if latency_s >= LATENCY_CRITICAL_S else ProblemLevel.WARNING
        found.append(_build_problem(queue, level, latency_s, ProblemKind.LATENCY, _latency_text, latency_s))
    overdue_s, error_ratio = queue.overdue_s, queue.error_ratio
    if overdue_s is not None and overdue_s >= OVERDUE_WARNING_S and not paused:
        found.append(
            _build_problem(queue, ProblemLevel.WARNING, overdue_s, ProblemKind.OVERDUE, _overdue_text, overdue_s)
        )
    failing = error_ratio_level(error_ratio, queue.throughput_per_min)
    if error_ratio is not None and failing is not ProblemLevel.OK:
        found.append(_build_problem(queue, failing, error_ratio * 1e3, ProblemKind.FAILING, _failing_text, error_ratio))
    if dead_more > 0:
        found.append(
            _build_problem(
                queue, ProblemLevel.WARNING, min(dead_more, 900), ProblemKind.DEAD_LETTERS, _growing_text, dead_more
            )
        )
    return tuple(sorted(found, key=_rank_of) if len(found) > 1 else found)


def error_ratio_level(error_ratio: float | None, throughput_per_min: float | None) -> ProblemLevel:
    """The level of an error ratio of the last 5 minutes, wherever it is shown; OK if it is unknown or of a few jobs."""
    if error_ratio is None or (throughput_per_min or 0.0) * 5 < ERROR_MIN_JOBS or error_ratio < ERROR_WARNING_RATIO:
        return ProblemLevel.OK
    return ProblemLevel.CRITICAL if error_ratio >= ERROR_CRITICAL_RATIO else ProblemLevel.WARNING


def _build_problem(
    queue: QueueStats,
    level: ProblemLevel,
    weight: float,
    kind: ProblemKind,
    describe: Callable[[Any], str],
    figure: Any,
) -> Problem:
    return Problem(level=level, rank=(-level, -weight), kind=kind, describe=describe, figure=figure, queue=queue)


def _waiting_text(waiting: int) -> str:
    return "1 job waiting" if waiting == 1 else f"{format_number(waiting)} jobs waiting"


def _latency_text(latency_s: float) -> str:
    return f"oldest job waiting {duration(latency_s)}"


def _overdue_text(overdue_s: float) -> str:
    return f"scheduled jobs are {duration(overdue_s)} overdue"


def _failing_text(error_ratio: float) -> str:
    return f"{format_percent(error_ratio)} of processed jobs failed"


def _growing_text(dead_more: int) -> str:
    return f"+{format_number(dead_more)} in {GROWTH_WINDOW_S // 60} min"


def dead_growth(queue: QueueStats, history: History) -> int:
    """By how many the dead letters of a queue rose within GROWTH_WINDOW_S; 0 when unknown or fallen."""
    now = queue.counts.dead
    if not now or (past := history.history_of(queue)) is None:
        return 0
    return _growth_of(past.dead[-max(1, GROWTH_WINDOW_S // history.step_s) :], now)


def _growth_of(points: Sequence[Point], now: int) -> int:
    for point in points:
        if point is not None:
            return max(0, now - int(point))
    return 0


def _rank_of(problem: Problem) -> tuple[int, float]:
    return problem.rank
