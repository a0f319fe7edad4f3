"""The last hour of every queue in at most 60 points, small enough to be published with the snapshot.

Pure: no Redis, no clock. A new history has points 15 s apart, so that a chart appears soon after the first start. At 60
points, pairs are merged and the step doubles, until the points are a minute apart and the oldest is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from ..model import QueueRef, QueueStats, Snapshot, Value
from .total_rates import TotalRates, total_rates

POINTS = 60
FIRST_STEP_S = 15
LAST_STEP_S = 60

Point = float | int | None
Series = tuple[Point, ...]
Extender = Callable[[Series, Point], Series]  # a series with one more point


class QueueHistory(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """One queue's series, oldest first, spaced by `History.step_s` and aligned at the end; None is a gap."""

    depth: Series = ()  # the highest of each step
    dead: Series = ()
    finished_per_min: Series = ()
    failed_per_min: Series = ()
    error_ratio: Series = ()  # totals only: not every queue reports both finished and failed jobs


class History(Value, frozen=True, kw_only=True):
    """The last hour; `queues` by `key_of`, `memory` = used bytes by source. Sparse: a queue can have fewer points."""

    version: int = 0
    step_s: int = FIRST_STEP_S
    last_at: float = 0.0  # seconds since 1970 of the newest point
    queues: dict[str, QueueHistory] = msgspec.field(default_factory=dict)
    totals: QueueHistory = QueueHistory()
    memory: dict[str, Series] = msgspec.field(default_factory=dict)

    def history_of(self, queue: QueueStats | QueueRef) -> QueueHistory | None:
        """The series of one queue; None if it has no points yet."""
        return self.queues.get(key_of(queue))

    def points_of(self, queue: QueueStats | QueueRef, series: str, joined: int = 1) -> list[tuple[float, Point]]:
        """(seconds since 1970, value) of one series of a queue, oldest first; `joined` points become one with the time
        of the newest: the maximum of depth and dead, the mean of rates. Empty if the queue has no points yet."""
        values: Series = getattr(self.history_of(queue) or QueueHistory(), series)
        peaks = series in ("depth", "dead")
        found = []
        for end in range(len(values), 0, -joined):
            known = [value for value in values[max(0, end - joined) : end] if value is not None]
            value = None if not known else max(known) if peaks else _rounded(sum(known) / len(known))
            found.append((self._time_of(len(values) - end), value))
        return found[::-1]

    def memory_points(self, source: str) -> list[tuple[float, Point]]:
        """(seconds since 1970, bytes used by the source's server), oldest first."""
        values = self.memory.get(source, ())
        return [(self._time_of(len(values) - 1 - n), value) for n, value in enumerate(values)]

    def _time_of(self, steps_back: int) -> float:
        return self.last_at - steps_back * self.step_s


def key_of(queue: QueueStats | QueueRef) -> str:
    """The key of a queue in `History.queues`; NUL separates its parts, whatever characters they contain."""
    return f"{queue.source}\0{queue.backend}\0{queue.name}"


class HistoryKeeper:
    """Builds a History from samples; owned by one sampler, not thread-safe."""

    def __init__(self, history: History | None = None) -> None:
        self.history = history or History()
        self._depth_peak: dict[str, int] = {}

    def add_snapshot(self, snapshot: Snapshot) -> History:
        """Add a snapshot and return the history; it gets a new point, and a higher version, once per step."""
        for queue in snapshot.queues:
            if queue.depth is not None:
                key = key_of(queue)
                self._depth_peak[key] = max(queue.depth, self._depth_peak.get(key, 0))
        if snapshot.sampled_at - self.history.last_at >= self.history.step_s:
            self.history = self._with_point(snapshot)
            self._depth_peak = {}
        return self.history

    def _with_point(self, snapshot: Snapshot) -> History:
        old = self.history
        missed = int((snapshot.sampled_at - old.last_at) // old.step_s) - 1 if old.last_at else 0
        if missed >= POINTS:  # no samples for so long that nothing of the old hour remains
            old, missed = History(version=old.version), 0
        extend = _build_extender(missed)
        queues = {}
        for queue in snapshot.queues:
            key = key_of(queue)
            past = old.queues.get(key, QueueHistory())
            queues[key] = QueueHistory(
                depth=extend(past.depth, self._depth_peak.get(key)),
                dead=extend(past.dead, queue.counts.dead),
                finished_per_min=extend(past.finished_per_min, _rounded(queue.throughput_per_min)),
                failed_per_min=extend(past.failed_per_min, _rounded(queue.failed_per_min)),
            )
        memory = {
            source.name: extend(old.memory.get(source.name, ()), source.health.used_memory_bytes)
            for source in snapshot.sources
        }
        return _fit_history(
            History(
                version=old.version + 1,
                step_s=old.step_s,
                last_at=snapshot.sampled_at,
                queues=queues,
                totals=_extend_totals(old.totals, snapshot, extend),
                memory=memory,
            )
        )


def known_sum(values: Iterable[Point]) -> Point:
    """The sum of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def sum_histories(histories: Iterable[QueueHistory]) -> QueueHistory:
    """The sums of the known values of several queues, point by point from the newest; without the error ratio."""
    found = tuple(histories)

    def total(name: str) -> Series:
        series: list[Series] = [getattr(each, name) for each in found]
        steps = max(map(len, series), default=0)
        return tuple(known_sum(each[-n] for each in series if len(each) >= n) for n in range(steps, 0, -1))

    return QueueHistory(
        depth=total("depth"),
        dead=total("dead"),
        finished_per_min=total("finished_per_min"),
        failed_per_min=total("failed_per_min"),
    )


def _build_extender(missed: int) -> Extender:
    gap = (None,) * missed
    return lambda series, point: (*series, *(gap if series else ()), point)


def _extend_totals(past: QueueHistory, snapshot: Snapshot, extend: Extender) -> QueueHistory:
    sums = total_rates(snapshot.queues, snapshot.sources)
    return QueueHistory(
        depth=extend(past.depth, known_sum(queue.depth for queue in snapshot.queues)),
        dead=extend(past.dead, known_sum(queue.counts.dead for queue in snapshot.queues)),
        finished_per_min=extend(past.finished_per_min, _rounded(sums.throughput_per_min)),
        failed_per_min=extend(past.failed_per_min, _rounded(sums.failed_per_min)),
        error_ratio=extend(past.error_ratio, _point_of_error_ratio(sums)),
    )


def _point_of_error_ratio(sums: TotalRates) -> Point:
    """The error ratio rounded for transport; 0.0 if it is known that no job finished."""
    if sums.throughput_per_min == 0 and not sums.throughput_unknown:
        return 0.0
    return None if sums.error_ratio is None else round(sums.error_ratio, 4)


def _fit_history(history: History) -> History:
    """`history` with at most POINTS points: merged until the step is LAST_STEP_S, then cut."""
    if len(history.totals.depth) <= POINTS:
        return history
    if history.step_s >= LAST_STEP_S:
        return _map_history(history, history.step_s, lambda series: series[-POINTS:], lambda series: series[-POINTS:])
    return _map_history(history, history.step_s * 2, _merged_max, _merged_mean)


def _map_history(
    history: History, step_s: int, level: Callable[[Series], Series], rate: Callable[[Series], Series]
) -> History:
    def one(item: QueueHistory) -> QueueHistory:
        return QueueHistory(
            depth=level(item.depth),
            dead=level(item.dead),
            finished_per_min=rate(item.finished_per_min),
            failed_per_min=rate(item.failed_per_min),
            error_ratio=rate(item.error_ratio),
        )

    return History(
        version=history.version,
        step_s=step_s,
        last_at=history.last_at,
        queues={key: one(item) for key, item in history.queues.items()},
        totals=one(history.totals),
        memory={name: level(series) for name, series in history.memory.items()},
    )


def _pair_series(series: Series) -> list[Series]:
    # Aligned at the end, since a queue that appeared later has fewer points.
    odd = len(series) % 2
    return ([series[:1]] if odd else []) + [series[index : index + 2] for index in range(odd, len(series), 2)]


def _merged_max(series: Series) -> Series:
    return tuple(max((point for point in pair if point is not None), default=None) for pair in _pair_series(series))


def _merged_mean(series: Series) -> Series:
    def mean(pair: Series) -> Point:
        known = [point for point in pair if point is not None]
        return _rounded(sum(known) / len(known)) if known else None

    return tuple(mean(pair) for pair in _pair_series(series))


def _rounded(value: Point) -> Point:
    """Rounded for transport: a sparkline is 20 pixels high."""
    return None if value is None else round(value, 2)
