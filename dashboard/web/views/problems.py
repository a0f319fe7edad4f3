"""What is wrong now, worst first. Pure: figures in, words out; the same words order the queue table.

These are the signs that need no configuration. None (unknown) is never a trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

from ...model import QueueStats, Snapshot, SourceStats, Value
from ...sampling.recent_history import History, Point
from ..formatting import duration, full, percent

# Age of the oldest waiting job: a queue that is drained has its jobs picked up within a minute.
LATENCY_WARNING_S = 60.0
LATENCY_CRITICAL_S = 900.0
OVERDUE_WARNING_S = 60.0
ERROR_WARNING_RATIO = 0.10
ERROR_CRITICAL_RATIO = 0.50
# Below this many jobs in the five minutes of the ratio, one failure says little.
ERROR_MIN_JOBS = 10
MEMORY_WARNING_RATIO = 0.75
MEMORY_CRITICAL_RATIO = 0.90
CLIENTS_WARNING_RATIO = 0.90
# Dead letters count as growing when there are more than this long ago.
GROWTH_WINDOW_S = 900


class ProblemLevel(IntEnum):
    """How bad; the higher the worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The level in lower case."""
        return self.name.lower()


class Problem(Value, frozen=True, kw_only=True, gc=False):
    """One thing that is wrong. `state` is a word for the table; `rank` orders: worst first, then by weight.

    Of thousands only those that are shown are put into words: `say` makes them of `figure`.
    """

    level: ProblemLevel
    rank: tuple[int, float]
    state: str
    say: Callable[[Any], str]
    figure: Any
    queue: QueueStats | None = None
    source: str | None = None

    @property
    def text(self) -> str:
        """What is wrong, in words that go on after the name of the queue or source."""
        return self.say(self.figure)


def of_snapshot(snapshot: Snapshot, history: History) -> list[Problem]:
    """All troubles of all sources and queues, worst first. An unreachable source speaks for its queues."""
    return worst_of_snapshot(snapshot, [of_queue(queue, dead_growth(queue, history)) for queue in snapshot.queues])


def worst_of_snapshot(snapshot: Snapshot, of_queues: Sequence[Sequence[Problem]]) -> list[Problem]:
    """As of_snapshot, given what is wrong with each of its queues."""
    down = {source.name for source in snapshot.sources if not source.reachable}
    found = [trouble for source in snapshot.sources for trouble in of_source(source, snapshot.sampled_at)]
    for queue, troubles in zip(snapshot.queues, of_queues, strict=True):
        if troubles and queue.source not in down:
            found.extend(troubles)
    return sorted(found, key=_rank_of)


def of_source(source: SourceStats, now: float) -> list[Problem]:
    """What is wrong with one Redis, worst first; `now` in seconds since 1970."""
    found: list[Problem] = []

    def add(level: ProblemLevel, weight: float, state: str, text: str) -> None:
        rank = (-level, -weight)
        found.append(Problem(level=level, rank=rank, state=state, say=str, figure=text, source=source.name))

    if not source.reachable:
        since = source.unreachable_since
        ago = f" for {duration(max(0.0, now - since))}" if since is not None and now - since >= 1 else ""
        add(
            ProblemLevel.CRITICAL,
            1e9,
            "unreachable",
            f"Redis cannot be read{ago}: {source.error or 'it does not answer'}",
        )
        return found
    health = source.health
    if health.memory_ratio is not None and health.memory_ratio >= MEMORY_WARNING_RATIO:
        level = ProblemLevel.CRITICAL if health.memory_ratio >= MEMORY_CRITICAL_RATIO else ProblemLevel.WARNING
        add(level, health.memory_ratio * 1e6, "memory", f"Redis memory is {percent(health.memory_ratio)} full")
    if health.memory_limited and health.eviction_policy not in (None, "noeviction"):
        add(ProblemLevel.WARNING, 1e5, "eviction", f"Redis may evict jobs: its policy is {health.eviction_policy}")
    if health.persistence_ok is False:
        add(ProblemLevel.WARNING, 2e5, "persistence", "Redis failed to save its data to disk")
    if health.clients and health.max_clients and health.clients >= CLIENTS_WARNING_RATIO * health.max_clients:
        add(
            ProblemLevel.WARNING,
            3e5,
            "clients",
            f"{full(health.clients)} of {full(health.max_clients)} connections are used",
        )
    for problem in source.problems:
        add(ProblemLevel.WARNING, 4e5, "unreadable", problem)
    return sorted(found, key=_rank_of)


def of_queue(queue: QueueStats, dead_more: int = 0) -> tuple[Problem, ...]:
    """What is wrong with one queue, worst first; `dead_more` = how many dead letters came lately."""
    found: list[Problem] = []
    waiting, latency_s, paused = queue.depth, queue.latency_s, queue.paused
    if queue.error is not None:
        found.append(_build_problem(queue, ProblemLevel.CRITICAL, 1e6, "unreadable", _unreadable_text, queue.error))
    if waiting and queue.workers == 0 and not paused:
        found.append(_build_problem(queue, ProblemLevel.CRITICAL, 1e5 + waiting, "no worker", _no_worker, waiting))
    elif waiting and paused:
        found.append(_build_problem(queue, ProblemLevel.WARNING, 1e5 + waiting, "paused", _paused_text, waiting))
    elif latency_s is not None and latency_s >= LATENCY_WARNING_S:
        level = ProblemLevel.CRITICAL if latency_s >= LATENCY_CRITICAL_S else ProblemLevel.WARNING
        found.append(_build_problem(queue, level, latency_s, "late", _late_text, latency_s))
    overdue_s, error_ratio = queue.overdue_s, queue.error_ratio
    if overdue_s is not None and overdue_s >= OVERDUE_WARNING_S and not paused:
        found.append(_build_problem(queue, ProblemLevel.WARNING, overdue_s, "overdue", _overdue_text, overdue_s))
    if error_ratio is not None and error_ratio >= ERROR_WARNING_RATIO:
        finished = (queue.throughput_per_min or 0.0) * 5
        if finished >= ERROR_MIN_JOBS:
            level = ProblemLevel.CRITICAL if error_ratio >= ERROR_CRITICAL_RATIO else ProblemLevel.WARNING
            found.append(_build_problem(queue, level, error_ratio * 1e3, "failing", _failing_text, error_ratio))
    if dead_more > 0:
        found.append(
            _build_problem(queue, ProblemLevel.WARNING, min(dead_more, 900), "dead growing", _growing_text, dead_more)
        )
    return tuple(sorted(found, key=_rank_of) if len(found) > 1 else found)


def _build_problem(
    queue: QueueStats, level: ProblemLevel, weight: float, state: str, say: Callable[[Any], str], figure: Any
) -> Problem:
    return Problem(level=level, rank=(-level, -weight), state=state, say=say, figure=figure, queue=queue)


def _unreadable_text(error: str) -> str:
    return f"cannot be read: {error}"


def _no_worker(waiting: int) -> str:
    return f"has no worker while {_jobs_text(waiting)} {_wait_verb(waiting)}"


def _paused_text(waiting: int) -> str:
    return f"is paused while {_jobs_text(waiting)} {_wait_verb(waiting)}"


def _late_text(latency_s: float) -> str:
    return f"keeps its oldest job waiting for {duration(latency_s)}"


def _overdue_text(overdue_s: float) -> str:
    return f"starts scheduled jobs {duration(overdue_s)} late"


def _failing_text(error_ratio: float) -> str:
    return f"has {percent(error_ratio)} of its jobs failing"


def _growing_text(dead_more: int) -> str:
    letters = "dead letter" if dead_more == 1 else "dead letters"
    return f"gained {full(dead_more)} {letters} within {GROWTH_WINDOW_S // 60} min"


def dead_growth(queue: QueueStats, history: History) -> int:
    """By how many the dead letters of a queue grew within GROWTH_WINDOW_S; 0 when unknown or shrunk."""
    now = queue.counts.dead
    if not now or (past := history.history_of(queue)) is None:
        return 0
    return _growth_of(past.dead[-max(1, GROWTH_WINDOW_S // history.step_s) :], now)


def _growth_of(points: Sequence[Point], now: int) -> int:
    for point in points:
        if point is not None:
            return max(0, now - int(point))
    return 0


def _rank_of(trouble: Problem) -> tuple[int, float]:
    return trouble.rank


def _jobs_text(count: int) -> str:
    return "1 job" if count == 1 else f"{full(count)} jobs"


def _wait_verb(count: int) -> str:
    return "waits" if count == 1 else "wait"
