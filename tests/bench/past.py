"""A busy past for the benchmark of the history: queues and classes whose figures are drawn by lot, with a clock of its
own."""

from __future__ import annotations

import random
from collections.abc import Sequence

from msgspec.structs import replace

from dashboard.history.readings import Flows
from dashboard.model import (
    ClassFlow,
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


class Past:
    """Samples of `busy` queues with JOBS_PER_S each and as many at rest, `interval_s` apart. With `classes`, each
    job is of one of CLASSES."""

    def __init__(self, busy: int, start_s: float, interval_s: float, seed: int = 3, *, classes: bool = True) -> None:
        self._classes = classes
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
        flow = _flow(key, self._interval_s, dead, [self.die.lognormvariate(-1, 0.5) for _ in range(finished)])
        return replace(flow, classes=self._split(flow), classes_quality=Quality.EXACT) if self._classes else flow

    def _split(self, flow: QueueFlow) -> tuple[ClassFlow, ...]:
        """The jobs of a flow by class."""
        of = [self.die.randrange(CLASSES) for _ in flow.runtimes_s]
        found = []
        for number in range(CLASSES):
            jobs = [job for job, chosen in enumerate(of) if chosen == number]
            dead = sum(job < flow.dead for job in jobs)
            times = tuple(flow.runtimes_s[job] for job in jobs)
            name = f"shop.jobs.Class{number}"
            found.append(ClassFlow(job_class=name, completed=len(jobs) - dead, dead=dead, runtimes_s=times))
        return tuple(each for each in found if each.completed + each.dead)


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
