"""What is wrong now, worst first. Pure: figures in, words out; the same words order the queue table.

These are the signs that need no configuration. None (unknown) is never a trouble.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dashboard.collect.history import History, Point
from dashboard.model import QueueStats, Snapshot, SourceStats
from dashboard.web.formatting import duration, full, percent

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


class Level(IntEnum):
    """How bad; the higher the worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The level in lower case."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is wrong. `weight` orders troubles of one level; `state` is a word for the table."""

    level: Level
    weight: float
    state: str
    text: str
    queue: QueueStats | None = None
    source: str | None = None


def of_snapshot(snapshot: Snapshot, history: History) -> list[Trouble]:
    """All troubles of all sources and queues, worst first. An unreachable source speaks for its queues."""
    down = {source.name for source in snapshot.sources if not source.reachable}
    found = [trouble for source in snapshot.sources for trouble in of_source(source, snapshot.sampled_at)]
    for queue in snapshot.queues:
        if queue.source not in down:
            found.extend(of_queue(queue, dead_growth(queue, history)))
    return sorted(found, key=_worst_first)


def of_source(source: SourceStats, now: float) -> list[Trouble]:
    """What is wrong with one Redis, worst first; `now` in seconds since 1970."""
    found: list[Trouble] = []

    def add(level: Level, weight: float, state: str, text: str) -> None:
        found.append(Trouble(level=level, weight=weight, state=state, text=text, source=source.name))

    if not source.reachable:
        since = source.unreachable_since
        ago = f" for {duration(max(0.0, now - since))}" if since is not None and now - since >= 1 else ""
        add(Level.CRITICAL, 1e9, "unreachable", f"Redis cannot be read{ago}: {source.error or 'it does not answer'}")
        return found
    health = source.health
    if health.memory_ratio is not None and health.memory_ratio >= MEMORY_WARNING_RATIO:
        level = Level.CRITICAL if health.memory_ratio >= MEMORY_CRITICAL_RATIO else Level.WARNING
        add(level, health.memory_ratio * 1e6, "memory", f"Redis memory is {percent(health.memory_ratio)} full")
    if health.memory_limited and health.eviction_policy not in (None, "noeviction"):
        add(Level.WARNING, 1e5, "eviction", f"Redis may evict jobs: its policy is {health.eviction_policy}")
    if health.persistence_ok is False:
        add(Level.WARNING, 2e5, "persistence", "Redis failed to save its data to disk")
    if health.clients and health.max_clients and health.clients >= CLIENTS_WARNING_RATIO * health.max_clients:
        add(Level.WARNING, 3e5, "clients", f"{full(health.clients)} of {full(health.max_clients)} connections are used")
    for problem in source.problems:
        add(Level.WARNING, 4e5, "unreadable", problem)
    return sorted(found, key=_worst_first)


def of_queue(queue: QueueStats, dead_more: int = 0) -> list[Trouble]:
    """What is wrong with one queue, worst first; `dead_more` = how many dead letters came lately."""
    found: list[Trouble] = []

    def add(level: Level, weight: float, state: str, text: str) -> None:
        found.append(Trouble(level=level, weight=weight, state=state, text=text, queue=queue))

    waiting = queue.depth or 0
    if queue.error is not None:
        add(Level.CRITICAL, 1e6, "unreadable", f"cannot be read: {queue.error}")
    if waiting and queue.workers == 0 and not queue.paused:
        add(Level.CRITICAL, 1e5 + waiting, "no worker", f"has no worker while {_jobs(waiting)} {_wait(waiting)}")
    elif waiting and queue.paused:
        add(Level.WARNING, 1e5 + waiting, "paused", f"is paused while {_jobs(waiting)} {_wait(waiting)}")
    elif queue.latency_s is not None and queue.latency_s >= LATENCY_WARNING_S:
        level = Level.CRITICAL if queue.latency_s >= LATENCY_CRITICAL_S else Level.WARNING
        add(level, queue.latency_s, "late", f"keeps its oldest job waiting for {duration(queue.latency_s)}")
    if queue.overdue_s is not None and queue.overdue_s >= OVERDUE_WARNING_S and not queue.paused:
        add(Level.WARNING, queue.overdue_s, "overdue", f"starts scheduled jobs {duration(queue.overdue_s)} late")
    finished = (queue.throughput_per_min or 0.0) * 5
    if queue.error_ratio is not None and queue.error_ratio >= ERROR_WARNING_RATIO and finished >= ERROR_MIN_JOBS:
        level = Level.CRITICAL if queue.error_ratio >= ERROR_CRITICAL_RATIO else Level.WARNING
        add(level, queue.error_ratio * 1e3, "failing", f"has {percent(queue.error_ratio)} of its jobs failing")
    if dead_more > 0:
        add(
            Level.WARNING,
            min(dead_more, 900),
            "dead growing",
            f"gained {full(dead_more)} dead letter{'' if dead_more == 1 else 's'} within {GROWTH_WINDOW_S // 60} min",
        )
    return sorted(found, key=_worst_first) if len(found) > 1 else found


def dead_growth(queue: QueueStats, history: History) -> int:
    """By how many the dead letters of a queue grew within GROWTH_WINDOW_S; 0 when unknown or shrunk."""
    past = history.of(queue)
    if past is None or queue.counts.dead is None:
        return 0
    return _growth(past.dead[-max(1, GROWTH_WINDOW_S // history.step_s) :], queue.counts.dead)


def _growth(points: Sequence[Point], now: int) -> int:
    known: Iterable[Point] = (point for point in points if point is not None)
    first = next(iter(known), None)
    return max(0, now - int(first)) if first is not None else 0


def _worst_first(trouble: Trouble) -> tuple[int, float]:
    return (-trouble.level, -trouble.weight)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{full(count)} jobs"


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"
