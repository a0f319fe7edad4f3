"""What the figures of one sample show without waiting for an alert: problems of a queue and of a Redis. Pure.

None (unknown) is never a problem. The levels are those of the rules, see thresholds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ....model import QueueStats, RedisHealth, SourceStats
from ....sampling.recent_history import History
from ....units import format_count, format_number, format_percent
from ...formatting import duration
from . import thresholds
from .problem import Problem, ProblemKind, ProblemLevel, rank_of
from .thresholds import Scale

# With fewer finished jobs in the 5 minutes of the ratio, a single failure means little.
ERROR_MIN_JOBS = 10
# Dead letters are rising when there are more than this long ago.
GROWTH_WINDOW_S = 3600


def check_source(source: SourceStats, scale: Scale, now: float) -> list[Problem]:
    """The problems of one Redis, worst first; `now` in seconds since 1970."""
    if not source.reachable:
        since = source.unreachable_since
        ago = f" for {duration(max(0.0, now - since))}" if since is not None and now - since >= 1 else ""
        text = f"cannot be read{ago}: {source.error or 'not responding'}"
        return [_source_problem(source, ProblemLevel.CRITICAL, 1e9, ProblemKind.UNREACHABLE, text)]
    found = [
        _source_problem(source, level, weight, kind, text)
        for level, weight, kind, text in _health_problems(source.health, scale)
        if level
    ]
    if source.sentinel_problem is not None:
        text = source.sentinel_problem
        found.append(_source_problem(source, ProblemLevel.WARNING, 3e5, ProblemKind.REPLICATION, text))
    found += [
        _source_problem(source, ProblemLevel.WARNING, 4e5, ProblemKind.UNREADABLE, why) for why in source.problems
    ]
    return sorted(found, key=rank_of)


def _source_problem(source: SourceStats, level: ProblemLevel, weight: float, kind: ProblemKind, text: str) -> Problem:
    return Problem(
        level=level,
        rank=(-level, -weight),
        kind=kind,
        describe=str,
        figure=text,
        source=source.name,
        place=source.name,
    )


def _health_problems(health: RedisHealth, scale: Scale) -> Iterator[tuple[ProblemLevel, float, ProblemKind, str]]:
    """Level, weight, kind and text of what a reachable Redis reports; a level can be OK."""
    ratio = health.memory_ratio
    if ratio is not None:
        level = scale.level(thresholds.MEMORY, ratio)
        yield level, ratio * 1e6, ProblemKind.MEMORY, f"{format_percent(ratio)} of maxmemory used"
    if health.memory_limited and health.eviction_policy not in (None, "noeviction"):
        text = f"Redis may evict jobs: its policy is {health.eviction_policy}"
        yield scale.level(thresholds.EVICTION, 1.0), 1e5, ProblemKind.EVICTION, text
    if health.persistence_ok is False:
        level = scale.level(thresholds.PERSISTENCE, 1.0)
        yield level, 2e5, ProblemKind.PERSISTENCE, "Redis failed to save its data to disk"
    if health.clients and health.max_clients:
        text = f"{format_number(health.clients)} of {format_number(health.max_clients)} connections in use"
        level = scale.level(thresholds.CLIENTS, health.clients / health.max_clients)
        yield level, 3e5, ProblemKind.CONNECTIONS, text


def check_queue(queue: QueueStats, scale: Scale, dead_more: int = 0) -> tuple[Problem, ...]:
    """The problems of one queue, worst first; `dead_more` = by how many its dead letters rose within an hour."""
    if _is_healthy(queue, scale, dead_more):
        return ()
    found: list[Problem] = []

    def add(kind: ProblemKind, level: ProblemLevel, weight: float, describe: Callable[[Any], str], figure: Any) -> None:
        rank = (-level, -weight)
        found.append(Problem(level=level, rank=rank, kind=kind, describe=describe, figure=figure, queue=queue))

    waiting, latency_s, dead = queue.depth, queue.latency_s, queue.counts.dead
    if queue.error is not None:
        add(ProblemKind.UNREADABLE, ProblemLevel.CRITICAL, 1e6, str, queue.error)
    if waiting and queue.paused:
        if not scale.has_rule(thresholds.PAUSED):
            add(ProblemKind.PAUSED, ProblemLevel.WARNING, 1e5 + waiting, _waiting_text, waiting)
    elif not queue.paused:
        if waiting and queue.workers is not None and (level := scale.level(thresholds.CONSUMERS, queue.workers)):
            kind = ProblemKind.FEW_WORKERS if queue.workers else ProblemKind.NO_WORKER
            add(kind, level, 1e5 + waiting, _waiting_text, waiting)
        elif latency_s and (level := scale.level(thresholds.LATENCY, latency_s)):
            add(ProblemKind.LATENCY, level, latency_s, _latency_text, latency_s)
        if queue.overdue_s and (level := scale.level(thresholds.OVERDUE, queue.overdue_s)):
            add(ProblemKind.OVERDUE, level, queue.overdue_s, _overdue_text, queue.overdue_s)
    ratio = queue.error_ratio
    if ratio and (level := error_ratio_level(ratio, queue.throughput_per_min, scale)):
        add(ProblemKind.FAILING, level, ratio * 1e3, _failing_text, ratio)
    if dead_more > 0 and (level := scale.level(thresholds.DEAD_GROWTH, dead_more)):
        add(ProblemKind.RISING, level, min(dead_more, 900), _growing_text, dead_more)
    elif dead and (level := scale.level(thresholds.DEAD, dead)):
        add(ProblemKind.DEAD_LETTERS, level, min(dead, 900), _dead_text, dead)
    return tuple(sorted(found, key=rank_of) if len(found) > 1 else found)


def _is_healthy(queue: QueueStats, scale: Scale, dead_more: int) -> bool:
    """Whether no figure of the queue can be a problem. Without calls: thousands of queues are, in each sample."""
    if queue.error is not None or queue.paused:
        return False
    consumers, latency, overdue, ratio, dead, growth = scale.healthy
    if queue.depth and (value := queue.workers) is not None and not consumers[0] <= value <= consumers[1]:
        return False
    # Each on its own, since a loop over them takes twice as long.
    if (seconds := queue.latency_s) and not latency[0] <= seconds <= latency[1]:
        return False
    if (seconds := queue.overdue_s) and not overdue[0] <= seconds <= overdue[1]:
        return False
    if (share := queue.error_ratio) and not ratio[0] <= share <= ratio[1]:
        return False
    if (value := queue.counts.dead) and not dead[0] <= value <= dead[1]:
        return False
    return not dead_more or growth[0] <= dead_more <= growth[1]


def error_ratio_level(ratio: float | None, throughput_per_min: float | None, scale: Scale) -> ProblemLevel:
    """The level of an error ratio of the last 5 minutes, wherever it is shown; OK if it is unknown or of a few jobs."""
    if (throughput_per_min or 0.0) * 5 < ERROR_MIN_JOBS:
        return ProblemLevel.OK
    return scale.level(thresholds.ERROR_RATIO, ratio)


def _waiting_text(waiting: int) -> str:
    return f"{format_count(waiting, 'job')} waiting"


def _latency_text(latency_s: float) -> str:
    return f"oldest job waiting {duration(latency_s)}"


def _overdue_text(overdue_s: float) -> str:
    return f"scheduled jobs are {duration(overdue_s)} overdue"


def _failing_text(error_ratio: float) -> str:
    return f"{format_percent(error_ratio)} of processed jobs failed"


def _growing_text(dead_more: int) -> str:
    return f"+{format_number(dead_more)} in the last hour"


def _dead_text(dead: int) -> str:
    return format_count(dead, "dead letter")


def dead_growth(queue: QueueStats, history: History) -> int:
    """By how many the dead letters of a queue rose within GROWTH_WINDOW_S; 0 when unknown or fallen."""
    now = queue.counts.dead
    if not now or (past := history.history_of(queue)) is None:
        return 0
    points, window = past.dead, max(1, GROWTH_WINDOW_S // history.step_s)
    first = points[-window] if len(points) >= window else points[0] if points else None
    if first is None:
        first = next((point for point in points[-window:] if point is not None), now)
    return max(0, now - int(first))
