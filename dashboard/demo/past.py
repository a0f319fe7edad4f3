"""The demo's past: a week of figures that never were, with a story to find in its charts. Pure: no Redis, no clock.

Every day has its rhythm. Five days ago Redis was away for most of an hour; three nights ago webhooks failed until the
morning; two days ago a deploy made the search index slow, for 22 hours.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..history.columns import QUALITY_CODES, QUEUE, SOURCE, Cell, Cells
from ..history.histogram import Histogram, add_durations, add_histogram
from ..history.tiers import DAY_S, HOUR_S, slot_of
from ..model import Quality
from .incident import PAYMENTS_QUEUE

DAYS = 7
PATTERN_S = 900  # the load of a queue changes this often, and the same at each resolution
PEAK_HOUR = 14.0
SLOWED = "search-index"
FAILED = "webhooks"
SLOWER = 2.6
FAILED_RATIO = 0.12
KEPT_DEAD = 300  # the demo's queues of BullMQ keep no more dead jobs
DURATIONS = 80  # so many jobs stand for those of a slot
VARIANTS = 12  # of these durations, for each queue
NOISE = 9973  # random numbers, used again and again: no length of a slot divides it
_NAMES = QUEUE.names
_QUALITIES = {"bullmq": Quality.EXACT}  # of the others: ESTIMATED

# The columns that a library reports of its queues.
_ALL = frozenset(QUEUE.names) - {"retrying", "retried", "waits"}
_OF_CELERY = frozenset({"depth", "latency_ms", "quality", "uncounted_ms", "finished", "failed"})
_OF_SIDEKIQ = frozenset({"depth", "active", "latency_ms", "workers", "quality", "uncounted_ms"})
# Sidekiq counts the jobs of all its queues together.
_OF_ALL_OF_SIDEKIQ = frozenset({"scheduled", "dead", "workers", "quality", "uncounted_ms", "finished", "failed"})


class PastQueue(NamedTuple):
    """A queue of the demo as it is when it runs. `process`: what adds its jobs. `wave`: the most jobs that wait in it.

    Run times have the median `runtime_s`; `spread` is that of their logarithm. `reported`: the columns that its library
    reports.
    """

    process: str
    backend: str
    name: str
    per_min: float
    wave: int
    runtime_s: float
    spread: float = 0.35
    workers: int = 1
    scheduled: int = 0
    reported: frozenset[str] = _ALL


QUEUES = (
    PastQueue("RQ producer", "rq", PAYMENTS_QUEUE, 149, 12, 0.13, 0.3, workers=2),
    PastQueue("RQ producer", "rq", "thumbnails", 80, 14, 0.44, workers=2),
    PastQueue("RQ producer", "rq", "newsletter", 110, 48, 0.18, workers=2, scheduled=12),
    PastQueue("RQ producer", "rq", "reports", 10, 5, 3.6),
    PastQueue("Celery producer", "celery", "payouts", 80, 22, 0.3, reported=_OF_CELERY),
    PastQueue("Celery producer", "celery", "exports", 6, 4, 2.5, reported=_OF_CELERY),
    PastQueue("Celery producer", "celery", "ratings", 240, 60, 0.05, reported=_OF_CELERY),
    PastQueue("BullMQ in Python", "bullmq", "orders", 21, 8, 2.7, 0.25),
    PastQueue("BullMQ in Python", "bullmq", "invoices", 27, 6, 1.0, scheduled=20),
    PastQueue("BullMQ in Python", "bullmq", FAILED, 135, 26, 0.7, 0.45),
    PastQueue("BullMQ in Python", "bullmq", SLOWED, 280, 60, 0.15),
    PastQueue("BullMQ in Python", "bullmq", "data-exports", 11, 3, 1.95),
    PastQueue("BullMQ in Node", "bullmq", "mails", 170, 16, 0.3, scheduled=10),
    PastQueue("BullMQ in Node", "bullmq", "video-transcode", 8, 3, 7.4, 0.12),
    PastQueue("Sidekiq", "sidekiq", "critical", 90, 8, 0.22, reported=_OF_SIDEKIQ),
    PastQueue("Sidekiq", "sidekiq", "low", 60, 6, 0.8, reported=_OF_SIDEKIQ),
    PastQueue("Sidekiq", "sidekiq", "*", 150, 0, 0.4, scheduled=4, reported=_OF_ALL_OF_SIDEKIQ),
)


class PastSlot(NamedTuple):
    """The cells of one slot: of each queue in order, of all queues together, and of the Redis server."""

    start_s: int

    queues: list[Cells]
    total: Cells
    source: Cells


class Past:
    """The demo's `days` until `now_s` (seconds since 1970), in slots of any length. The same for the same arguments."""

    def __init__(self, queues: Sequence[PastQueue], now_s: float, days: int = DAYS) -> None:
        self.queues = tuple(queues)
        self.start_s = slot_of(now_s, PATTERN_S) - days * DAY_S
        midnight = slot_of(now_s, DAY_S)
        self.outage = _span(slot_of(now_s - 5 * DAY_S, HOUR_S) + 40 * 60, 50 / 60)
        self.failures = _span(midnight - 3 * DAY_S + 2 * HOUR_S, 6.0)
        self.slowdown = _span(slot_of(now_s - 2 * DAY_S, HOUR_S) - 2 * HOUR_S, 22.0)
        self._now_s = now_s
        self._random = random.Random(14)
        count = days * DAY_S // PATTERN_S + 1
        self._loads = [[self._random.gauss(1, 0.09) for _ in range(count)] for _ in self.queues]
        self._noise = itertools.cycle([self._random.gauss(0, 1) for _ in range(NOISE)])
        self._hidden = {
            (queue.backend, queue.name): [place for place, name in enumerate(_NAMES) if name not in queue.reported]
            for queue in self.queues
        }
        self._runtimes = {queue.name: self._draw_runtimes(queue, 1.0) for queue in self.queues}
        self._slow_runtimes = {
            queue.name: self._draw_runtimes(queue, SLOWER) for queue in self.queues if queue.name == SLOWED
        }
        self._all_runtimes = [self._merge_runtimes(variant) for variant in range(VARIANTS)]

    def slots(self, start_s: int, end_s: int, step_s: int) -> Iterator[PastSlot]:
        """The slots between these times, oldest first; none while Redis was away."""
        for at in range(start_s, end_s - step_s + 1, step_s):
            if at + step_s <= self.outage[0] or at >= self.outage[1]:
                yield self._slot(at, step_s)

    def _slot(self, at: int, step_s: int) -> PastSlot:
        place = min(max(0, (at - self.start_s) // PATTERN_S), len(self._loads[0]) - 1)
        rhythm = rhythm_at(at) / rhythm_at(self._now_s)
        rows = [
            self._queue(queue, at, step_s, rhythm * loads[place])
            for queue, loads in zip(self.queues, self._loads, strict=True)
        ]
        return PastSlot(at, rows, self._total(at, rows), self._source(at, step_s, rhythm))

    def _queue(self, queue: PastQueue, at: int, step_s: int, load: float) -> Cells:
        slow = queue.name == SLOWED and _within(at, self.slowdown)
        failing = queue.name == FAILED and _within(at, self.failures)
        per_s = queue.per_min * load / 60
        counts = "finished" in queue.reported
        ended = self._count(per_s * step_s)
        depth = self._depth(queue, at, load, slow=slow)
        busy_s = queue.runtime_s * (SLOWER if slow else 1) * (1 + next(self._noise) / 3)
        runtimes = (self._slow_runtimes if slow else self._runtimes)[queue.name]
        cells: list[Cell] = [
            depth,
            max(0, round(per_s * busy_s)),
            self._count(queue.scheduled * load) if queue.scheduled else 0,
            None,
            self._dead(at) if queue.name == FAILED else 0,
            round(depth / per_s * 1000),
            queue.workers,
            QUALITY_CODES[_QUALITIES.get(queue.backend, Quality.ESTIMATED) if counts else Quality.UNKNOWN],
            0 if counts else step_s * 1000,
            ended,
            self._count(ended * FAILED_RATIO) if failing else 0,
            self._count(ended),
            None,
            runtimes[ended % VARIANTS] if ended else None,
            None,
        ]
        for place in self._hidden[queue.backend, queue.name]:
            cells[place] = None
        return tuple(cells)

    def _depth(self, queue: PastQueue, at: int, load: float, *, slow: bool) -> int:
        """Jobs wait in waves. More of them do while their run time is long, and just after Redis was away."""
        waiting = queue.wave * load * abs(next(self._noise)) / 3
        if slow:
            waiting += 9 * queue.wave * max(0.0, load - 0.75)
        since_s = at - self.outage[1]
        if 0 <= since_s < HOUR_S:
            waiting += 6 * queue.wave * (1 - since_s / HOUR_S)
        return round(waiting)

    def _dead(self, at: int) -> int:
        """Dead webhooks pile up at night; in the morning someone retries them."""
        begin_s, end_s = self.failures
        if not begin_s <= at < end_s + 2 * HOUR_S:
            return 0
        return min(KEPT_DEAD, round((at - begin_s) / 60 * 4))

    def _total(self, at: int, rows: Sequence[Cells]) -> Cells:
        """As `sum_queues` of the recorder has it, in less time: the durations are those of a slot before or after."""
        found: list[Cell] = []
        for name, column in zip(_NAMES, zip(*rows, strict=True), strict=True):
            known = [cell for cell in column if isinstance(cell, int)]
            if name == "latency_ms":
                found.append(max(known))
            elif name in ("quality", "uncounted_ms"):
                found.append(min(filter(None, known), default=0) if name == "quality" else min(known))
            else:
                # Not known for all jobs that finish.
                found.append(sum(known) if known and name != "enqueued" else None)
        found[_NAMES.index("runtimes")] = self._all_runtimes[at // 10 % VARIANTS]
        return tuple(found)

    def _source(self, at: int, step_s: int, rhythm: float) -> Cells:
        known: dict[str, Cell] = {
            "sampled_ms": step_s * 1000,
            "used_memory_bytes": round((7 + 2.2 * rhythm + self._random.uniform(-0.2, 0.2)) * 2**20)
            + self._dead(at) * 4096,
            "maxmemory_bytes": 256 * 2**20,
            "clients": round(60 + self._random.uniform(-2, 3)),
            "blocked_clients": round(14 + self._random.uniform(-2, 2)),
            "ops_per_s": self._count(1650 * rhythm),
            "keys": self._count(2600 * rhythm) + self._dead(at),
            "fragmentation_permille": round(1000 * self._random.uniform(1.9, 2.1)),
            "hit_permille": round(1000 * self._random.uniform(0.58, 0.62)),
            "evicted": 0,
            "rejected": 0,
        }
        return tuple(known.get(name) for name in SOURCE.names)

    def _count(self, mean: float) -> int:
        return max(0, round(mean + next(self._noise) * math.sqrt(mean)))

    def _draw_runtimes(self, queue: PastQueue, slower: float) -> list[Histogram]:
        median = math.log(queue.runtime_s * slower)
        found: list[Histogram] = [{} for _ in range(VARIANTS)]
        for drawn in found:
            add_durations(drawn, (self._random.lognormvariate(median, queue.spread) for _ in range(DURATIONS)))
        return found

    def _merge_runtimes(self, variant: int) -> Histogram:
        """The durations of all queues that report them, each as often as its jobs run."""
        whole: Histogram = {}
        for queue in self.queues:
            if "runtimes" in queue.reported:
                drawn = self._runtimes[queue.name][variant]
                add_histogram(whole, {bucket: count * round(queue.per_min) for bucket, count in drawn.items()})
        return whole


def rhythm_at(at: float) -> float:
    """The load of a shop over the day (UTC), about 1 on average: busiest in the afternoon, quiet at night."""
    hour = at % DAY_S / HOUR_S
    return 1 + 0.38 * math.cos((hour - PEAK_HOUR) / 24 * 2 * math.pi)


def _span(start_s: int, hours: float) -> tuple[int, int]:
    return start_s, start_s + round(hours * HOUR_S)


def _within(at: int, span: tuple[int, int]) -> bool:
    return span[0] <= at < span[1]
