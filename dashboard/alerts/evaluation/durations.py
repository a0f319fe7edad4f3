"""Tracks across samples how long a condition has lasted. Pure.

Durations are accumulated from sample to sample, never computed from two readings of a clock, so that a clock step, a
pause or a change of leader can neither create nor lose one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ...forecasts.robust_slope import Point
from ...history.activity.activities import Activity
from ...history.run_times import RunTimes
from ...model import QueueStats, RedisHealth, Snapshot, SourceStats
from ...sampling.recent_history import History, key_of
from . import forecast

COUNTER_WINDOW_S = 60.0
MAX_MEMORY_POINTS = 240
ACCEPTED = "ok"


@dataclass(slots=True)
class QueueFacts:
    """What one sample alone does not show about a queue; None is unknown."""

    no_progress_s: float | None = None
    paused_s: float | None = None
    dead_growth_per_h: float | None = None
    run_times: RunTimes | None = None
    activity: Activity | None = None


@dataclass(slots=True)
class SourceFacts:
    """What one sample alone does not show about a Redis; None is unknown."""

    unreachable_s: float = 0.0
    no_data_s: float = 0.0
    writes_refused: float | None = None
    link_down_s: float | None = None
    full_in_s: float | None = None
    never_full: bool = False
    evicted_per_min: float | None = None
    rejected_per_min: float | None = None


class PersistedDurations(msgspec.Struct, frozen=True, kw_only=True):
    """The durations that a new leader continues from; only those above 0, so at most about 60 bytes per queue in
    trouble."""

    no_progress_s: dict[str, float] = msgspec.field(default_factory=dict)
    paused_s: dict[str, float] = msgspec.field(default_factory=dict)
    unreachable_s: dict[str, float] = msgspec.field(default_factory=dict)
    no_data_s: dict[str, float] = msgspec.field(default_factory=dict)
    link_down_s: dict[str, float] = msgspec.field(default_factory=dict)
    writable: tuple[str, ...] = ()


@dataclass(slots=True)
class _ServerDurations:
    """The recent counters and memory use of one Redis."""

    counters: deque[tuple[float, int | None, int | None]] = field(default_factory=deque)  # at, evicted, rejected
    run_id: str | None = None
    used: deque[Point] = field(default_factory=deque)
    limit: int | None = None


class DurationTracker:
    """Accumulates durations from samples, which it takes in order. Not thread-safe."""

    def __init__(self) -> None:
        self._no_progress: dict[str, float] = {}
        self._paused: dict[str, float] = {}
        self._unreachable: dict[str, float] = {}
        self._no_data: dict[str, float] = {}
        self._link_down: dict[str, float] = {}
        self._writable: set[str] = set()
        self._servers: dict[str, _ServerDurations] = {}
        self._growth: dict[str, tuple[float, float | None]] = {}  # past increases, dead letters at the last point
        self._growth_version: int | None = None
        self.queues: dict[str, QueueFacts] = {}
        self.sources: dict[str, SourceFacts] = {}

    def export_durations(self) -> PersistedDurations:
        """The durations to store for the next leader."""
        return PersistedDurations(
            no_progress_s=_nonzero_durations(self._no_progress),
            paused_s=_nonzero_durations(self._paused),
            unreachable_s=_nonzero_durations(self._unreachable),
            no_data_s=_nonzero_durations(self._no_data),
            link_down_s=_nonzero_durations(self._link_down),
            writable=tuple(sorted(self._writable)),
        )

    def restore_durations(self, durations: PersistedDurations) -> None:
        """Continue from the durations of another leader."""
        self._no_progress = dict(durations.no_progress_s)
        self._paused = dict(durations.paused_s)
        self._unreachable = dict(durations.unreachable_s)
        self._no_data = dict(durations.no_data_s)
        self._link_down = dict(durations.link_down_s)
        self._writable |= set(durations.writable)

    def observe_sample(self, snapshot: Snapshot, history: History, now: float, passed_s: float) -> None:
        """Add a sample: `now` by the store's clock, `passed_s` since the last one, already bounded."""
        if history.version != self._growth_version:
            self._growth = _dead_rises(history)
            self._growth_version = history.version
        unreadable: set[str] = {source.name for source in snapshot.sources if source.problems}
        down = {source.name for source in snapshot.sources if not source.reachable}
        self.queues = {}
        for queue in snapshot.queues:
            key = key_of(queue)
            if queue.source in down:
                self.queues[key] = QueueFacts()  # durations stay unchanged until the source is reachable again
                continue
            if queue.error is not None:
                unreadable.add(queue.source)
            self.queues[key] = self._observe_queue(key, queue, passed_s)
        for table in (self._no_progress, self._paused):
            for key in table.keys() - self.queues.keys():
                del table[key]
        self.sources = {
            source.name: self._observe_source(source, source.name in unreadable, now, passed_s)
            for source in snapshot.sources
        }

    def _observe_queue(self, key: str, queue: QueueStats, passed_s: float) -> QueueFacts:
        depth = queue.depth
        waits = bool(depth) or (queue.overdue_s or 0.0) > 0
        return QueueFacts(
            no_progress_s=self._no_progress_s(key, queue, passed_s) if depth is not None else None,
            paused_s=None
            if depth is None or queue.paused is None
            else _add_duration(self._paused, key, passed_s, lasts=waits and queue.paused),
            dead_growth_per_h=self._dead_growth(key, queue),
        )

    def _no_progress_s(self, key: str, queue: QueueStats, passed_s: float) -> float | None:
        if not queue.depth or queue.paused:  # a pause is intentional, and `queue.paused_s` reports it
            self._no_progress[key] = 0.0
            return 0.0
        if queue.throughput_per_min is None and not queue.progress_known:
            return None
        ago = queue.finished_ago_s
        # A new queue: no longer than its oldest job has waited. A queue that was empty is stuck only since a job is
        # waiting, and a sampler that has just started has seen no job finish: hence the sum, bounded by what was seen.
        stuck = self._no_progress[key] + passed_s if key in self._no_progress else min(ago or 0.0, queue.latency_s or 0)
        self._no_progress[key] = stuck if ago is None else min(stuck, ago)
        return self._no_progress[key]

    def _dead_growth(self, key: str, queue: QueueStats) -> float | None:
        dead = queue.counts.dead
        if dead is None:
            return None
        past, last = self._growth.get(key, (0.0, None))
        return past + (max(0.0, dead - last) if last is not None else 0.0)

    def _observe_source(self, source: SourceStats, unreadable: bool, now: float, passed_s: float) -> SourceFacts:
        name = source.name
        facts = SourceFacts(
            unreachable_s=_add_duration(self._unreachable, name, passed_s, lasts=not source.reachable),
            no_data_s=self._no_data.get(name, 0.0)
            if not source.reachable
            else _add_duration(self._no_data, name, passed_s, lasts=unreadable),
        )
        if not source.reachable:
            return facts
        facts.writes_refused = self._writes_refused(name, source.health)
        facts.link_down_s = self._link_down_s(name, source.health, passed_s)
        server = self._servers.setdefault(name, _ServerDurations())
        _record_health(server, source.health, now)
        facts.evicted_per_min, facts.rejected_per_min = _rate_per_min(server, 1), _rate_per_min(server, 2)
        if server.limit and (source.health.memory_ratio or 0.0) > 0.5:
            facts.full_in_s, facts.never_full = forecast.full_in_s(tuple(server.used), server.limit)
        return facts

    def _link_down_s(self, name: str, health: RedisHealth, passed_s: float) -> float | None:
        """The server's own figure; where it has none (the link was never up), the time observed here."""
        seen = _add_duration(self._link_down, name, passed_s, lasts=health.replica_link_up is False)
        if health.replica_link_up is None:
            return None
        return seen if health.replica_link_down_s is None else float(health.replica_link_down_s)

    def _writes_refused(self, name: str, health: RedisHealth) -> float | None:
        if health.write_probe is None:
            return None
        if health.write_probe == ACCEPTED:
            self._writable.add(name)
            return 0.0
        # A read-only user and a replica are not expected to accept writes: that is not an incident.
        meant = health.write_probe not in ("NOPERM", "READONLY") or name in self._writable
        return 1.0 if meant else None


def _add_duration(table: dict[str, float], key: str, passed_s: float, *, lasts: bool) -> float:
    """The duration of a condition that lasts; 0.0 when it does not last or has just begun."""
    if not lasts:
        table.pop(key, None)
        return 0.0
    table[key] = table[key] + passed_s if key in table else 0.0
    return table[key]


def _nonzero_durations(table: Mapping[str, float]) -> dict[str, float]:
    return {key: round(seconds, 3) for key, seconds in table.items() if seconds > 0}


def _record_health(server: _ServerDurations, health: RedisHealth, now: float) -> None:
    """Record counters and memory use; start over after a server restart or a clock set back."""
    stepped = bool(server.counters) and now < server.counters[-1][0]
    if health.run_id is None or health.run_id != server.run_id or stepped:
        server.counters.clear()
        if stepped or server.run_id is not None:
            server.used.clear()
        server.run_id = health.run_id
    server.counters.append((now, health.evicted_keys, health.rejected_connections))
    while len(server.counters) > 2 and now - server.counters[1][0] >= COUNTER_WINDOW_S:
        server.counters.popleft()
    server.limit = health.maxmemory_bytes
    if health.used_memory_bytes is not None and health.maxmemory_bytes and health.memory_ratio is not None:
        # The memory that counts towards the limit, which is less than all used memory.
        server.used.append((now, health.memory_ratio * health.maxmemory_bytes))
    while server.used and now - server.used[0][0] > forecast.WINDOW_S:
        server.used.popleft()
    if len(server.used) > MAX_MEMORY_POINTS:
        server.used = deque([*list(server.used)[:-1:2], server.used[-1]])


def _rate_per_min(server: _ServerDurations, column: int) -> float | None:
    """The increase of a counter per minute within the window; None before there are two readings of one run."""
    if len(server.counters) < 2:
        return None
    first, last = server.counters[0], server.counters[-1]
    before, after, span_s = first[column], last[column], last[0] - first[0]
    if before is None or after is None or span_s <= 0:
        return None
    return max(0.0, after - before) * 60.0 / max(span_s, COUNTER_WINDOW_S)


def _dead_rises(history: History) -> dict[str, tuple[float, float | None]]:
    """Per queue: the increase of its dead letters over the hour of history, and their number at the end of it."""
    found: dict[str, tuple[float, float | None]] = {}
    for key, series in history.queues.items():
        rise, last = 0.0, None
        for point in series.dead:
            if point is None:
                continue
            if last is not None and point > last:
                rise += point - last
            last = float(point)
        found[key] = rise, last
    return found
