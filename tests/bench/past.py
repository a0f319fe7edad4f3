"""A busy past for the benchmark of the history: queues and classes whose figures are drawn by lot, with a clock of its
own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from dashboard.history.columns import CLASS, QUALITY_CODES
from dashboard.history.histogram import Histogram, add_durations
from dashboard.history.readings import Flows, Reading, SampleReadings
from dashboard.history.series_keys import SeriesKey
from dashboard.model import (
    Counts,
    FlowDelta,
    Quality,
    QueueFlow,
    QueueStats,
    RedisHealth,
    Snapshot,
    SourceStats,
)

CLASSES = 8
JOBS_PER_S = 1.0
ERRORS = 0.01


class ClassReadings(SampleReadings):
    """The readings of a sample, with those of CLASSES job classes for each queue where jobs finished."""

    def __init__(self, die: random.Random) -> None:
        super().__init__()
        self._die = die

    def read_sample(self, snapshot: Snapshot, flows: Flows) -> Iterator[Reading]:
        """What finished in a queue is that of its classes, each job of one of them."""
        begin_s = self._sampled_at.get("main", snapshot.sampled_at)
        yield from super().read_sample(snapshot, flows)
        for of, delta in flows.items():
            for flow in delta.queues:
                yield from self._read_classes(SeriesKey(CLASS, *of, flow.key), flow, begin_s, snapshot.sampled_at)

    def _read_classes(self, key: SeriesKey, flow: QueueFlow, begin_s: float, end_s: float) -> Iterator[Reading]:
        finished, failed = [0] * CLASSES, [0] * CLASSES
        runtimes: list[Histogram] = [{} for _ in range(CLASSES)]
        for job in range(flow.completed + flow.dead):
            number = self._die.randrange(CLASSES)
            finished[number] += 1
            failed[number] += job < flow.dead
            add_durations(runtimes[number], flow.runtimes_s[job : job + 1])
        quality = QUALITY_CODES[flow.quality]
        for number in range(CLASSES):
            cells = quality, 0, finished[number], failed[number], runtimes[number] or None
            yield Reading(key._replace(job_class=f"shop.jobs.Class{number}"), begin_s, end_s, cells)


class Past:
    """Samples of `busy` queues with JOBS_PER_S each and as many queues at rest, `interval_s` apart."""

    def __init__(self, busy: int, start_s: float, interval_s: float, seed: int = 3) -> None:
        self.now_s = start_s
        self.die = random.Random(seed)
        self._interval_s = interval_s
        self._busy = busy
        self._depths = [20.0] * busy
        self._sequence = 0

    def next_sample(self) -> tuple[Snapshot, Flows]:
        """The sample one interval later, and what finished since the one before."""
        self.now_s += self._interval_s
        self._sequence += 1
        rows, flows = [], []
        for number in range(2 * self._busy):
            is_busy = number < self._busy
            rows.append(self._row(number) if is_busy else _row_at_rest(number))
            flows.append(self._flow(rows[-1].key) if is_busy else _flow(rows[-1].key, self._interval_s, 0, ()))
        health = RedisHealth(used_memory_bytes=10_000_000 + self._sequence % 977 * 4096, run_id="r", clients=40)
        source = SourceStats(name="main", address="a", reachable=True, health=health)
        snapshot = Snapshot(
            sampled_at=self.now_s,
            interval_s=self._interval_s,
            sequence=self._sequence,
            sampler="bench",
            epoch=1,
            sources=(source,),
            queues=tuple(rows),
        )
        return snapshot, {("main", "rq"): FlowDelta(queues=tuple(flows))}

    def _row(self, number: int) -> QueueStats:
        depth = self._depths[number] = max(0.0, self._depths[number] * 0.98 + self.die.gauss(0.4, 4.0))
        counts = Counts(waiting=int(depth), active=self.die.randrange(4), dead=3, scheduled=2, retrying=1)
        return _stats(number, counts, latency_s=depth / JOBS_PER_S)

    def _flow(self, key: str) -> QueueFlow:
        mean = JOBS_PER_S * self._interval_s
        finished = max(0, round(self.die.gauss(mean, mean**0.5)))
        dead = sum(self.die.random() < ERRORS for _ in range(finished))
        return _flow(key, self._interval_s, dead, [self.die.lognormvariate(-1, 0.5) for _ in range(finished)])


def _stats(number: int, counts: Counts, latency_s: float) -> QueueStats:
    name = f"queue-{number:04}"
    return QueueStats(
        source="main",
        backend="rq",
        name=name,
        key=name,
        depth=counts.waiting,
        latency_s=latency_s,
        counts=counts,
        workers=2,
    )


def _row_at_rest(number: int) -> QueueStats:
    return _stats(number, Counts(waiting=0, active=0, dead=3, scheduled=0, retrying=0), latency_s=0.0)


def _flow(key: str, span_s: float, dead: int, runtimes_s: Sequence[float]) -> QueueFlow:
    return QueueFlow(
        key=key,
        completed=len(runtimes_s) - dead,
        dead=dead,
        span_s=span_s,
        quality=Quality.EXACT,
        runtimes_s=tuple(runtimes_s),
    )
