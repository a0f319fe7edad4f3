"""The demo's past: a week of figures that never were, with a story to find in its charts. Pure: no Redis, no clock.

Every day has its rhythm. Five days ago Redis was away for most of an hour; three nights ago webhooks failed until the
morning; two days ago a deploy made the search index slow, for 22 hours; since one of three hours ago, thumbnails take
longer, as they do in the demo.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

from ...history.columns import QUALITY_CODES, QUEUE, SOURCE, Cell, Cells
from ...history.histogram import Histogram, add_histogram, bucket_of
from ...history.tiers import DAY_S, HOUR_S, slot_of
from ...model import Quality
from .queues import FAILED, HEAVIER, SLOWED, PastClass, PastQueue

DAYS = 7
PATTERN_S = 900  # the load of a queue changes this often, and the same at each resolution
PEAK_HOUR = 14.0
SLOWER = 2.6
# Less than the default alert about run times needs: until the incident, every queue of the demo is healthy.
LIGHTER = 1 / 1.75
# The class of a queue whose run times change, and how.
CHANGES: Mapping[str, tuple[str, float]] = {
    SLOWED: ("index", SLOWER),
    HEAVIER: ("dashboard.demo.shop.render_thumbnail", LIGHTER),
}
FAILED_RATIO = 0.12
KEPT_DEAD = 300  # the demo's queues of BullMQ keep no more dead jobs
DURATIONS = 80  # so many jobs stand for those of a slot
VARIANTS = 12  # of these durations, for each class of jobs
WAITS = 16  # so many waiting times stand for those of a slot
DEPLOY_BEFORE_S = 40  # so long before run times change
NOISE = 9973  # random numbers, used again and again: no length of a slot divides it
_NAMES = QUEUE.names
_NORMAL = NormalDist()
_LATENCY, _WAITED = QUEUE.index_of("latency_ms"), QUEUE.index_of("waits")
_QUALITIES = {"bullmq": Quality.EXACT}  # of the others: ESTIMATED


class PastDeploy(NamedTuple):
    """A deploy of the shop, `at` seconds since 1970."""

    version: str
    at: float


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
        self.heavier_s = slot_of(now_s - 3 * HOUR_S, PATTERN_S)
        self._changed = {SLOWED: self.slowdown, HEAVIER: (self.start_s, self.heavier_s)}
        self._now_s = now_s
        self._random = random.Random(14)
        count = days * DAY_S // PATTERN_S + 1
        self._loads = [[self._random.gauss(1, 0.09) for _ in range(count)] for _ in self.queues]
        self._noise = itertools.cycle([self._random.gauss(0, 1) for _ in range(NOISE)])
        self._hidden = {
            (queue.backend, queue.name): [place for place, name in enumerate(_NAMES) if name not in queue.reported]
            for queue in self.queues
        }
        self._drawn = {
            (queue.name, one.name, changed): self._draw_buckets(queue, one, changed=changed)
            for queue in self.queues
            for one in queue.classes
            for changed in ((False, True) if CHANGES.get(queue.name, ("",))[0] == one.name else (False,))
        }
        self._runtimes = {
            (queue.name, changed): [self._merge_classes(queue, variant, changed=changed) for variant in range(VARIANTS)]
            for queue in self.queues
            for changed in ((False, True) if queue.name in CHANGES else (False,))
        }
        self._all_runtimes: dict[tuple[str, ...], list[Histogram]] = {}  # by the queues that are changed
        self._depths: dict[str, int] = {}  # of the slot before

    @property
    def deploys(self) -> tuple[PastDeploy, ...]:
        """The deploys of the story, oldest first."""
        first_s = slot_of(self._now_s - 6 * DAY_S, HOUR_S) + 25 * 60
        times = (first_s, *(at - DEPLOY_BEFORE_S for at in (*self.slowdown, self.heavier_s)))
        found = (PastDeploy(f"v{number}", float(at)) for number, at in enumerate(times, 409))
        return tuple(deploy for deploy in found if deploy.at >= self.start_s)

    def is_changed(self, queue: PastQueue, at: int) -> bool:
        """Whether the run times of its class in CHANGES are others then."""
        return queue.name in CHANGES and _within(at, self._changed[queue.name])

    def draw_class(self, queue: PastQueue, one: PastClass, jobs: int, at: int) -> Histogram:
        """The run times of so many jobs of a class that finished in a slot that begins at `at`."""
        key = (queue.name, one.name, self.is_changed(queue, at))
        drawn = self._drawn[key if key in self._drawn else (*key[:2], False)][at // PATTERN_S % VARIANTS]
        whole, rest = divmod(jobs, DURATIONS)
        found = {bucket: count * whole for bucket, count in _count_buckets(drawn).items()} if whole else {}
        add_histogram(found, _pick_evenly(drawn, rest))
        return found

    def slots(self, start_s: int, end_s: int, step_s: int) -> Iterator[PastSlot]:
        """The slots between these times, oldest first; none while Redis was away."""
        self._depths = {}
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
        changed = self.is_changed(queue, at)
        failing = queue.name == FAILED and _within(at, self.failures)
        per_s = queue.per_min * load / 60
        counts = "finished" in queue.reported
        ended = self._count(per_s * step_s)
        depth = self._depth(queue, at, load, slow=changed and queue.name == SLOWED)
        busy_s = queue.runtime_s * (CHANGES[queue.name][1] if changed else 1) * (1 + next(self._noise) / 3)
        runtimes = self._runtimes[queue.name, changed]
        latency_s = depth / per_s
        enqueued = max(0, ended + depth - self._depths.get(queue.name, depth))
        self._depths[queue.name] = depth
        cells: list[Cell] = [
            depth,
            min(queue.workers * queue.concurrency, max(0, round(per_s * busy_s))),
            self._count(queue.scheduled * load) if queue.scheduled else 0,
            None,
            self._dead(at) if queue.name == FAILED else 0,
            round(latency_s * 1000),
            queue.workers,
            QUALITY_CODES[_QUALITIES.get(queue.backend, Quality.ESTIMATED) if counts else Quality.UNKNOWN],
            0 if counts else step_s * 1000,
            ended,
            self._count(ended * FAILED_RATIO) if failing else 0,
            enqueued,
            None,
            runtimes[ended % VARIANTS] if ended else None,
            _waits_of(latency_s) if ended else None,
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
        found[_NAMES.index("runtimes")] = self._random.choice(self._runtimes_of_all(at))
        waited = (cells[_LATENCY] for cells in rows if cells[_WAITED] is not None)
        latencies = sorted(cell for cell in waited if isinstance(cell, int))
        found[_WAITED] = _waits_of(latencies[len(latencies) // 2] / 1000) if latencies else None
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

    def _draw_buckets(self, queue: PastQueue, one: PastClass, *, changed: bool) -> list[tuple[int, ...]]:
        """The buckets of DURATIONS run times of a class in order, VARIANTS times."""
        median = math.log(queue.runtime_s * one.pace * (CHANGES[queue.name][1] if changed else 1))
        return [
            tuple(bucket_of(math.exp(median + queue.spread * self._draw_normal(place))) for place in range(DURATIONS))
            for _ in range(VARIANTS)
        ]

    def _draw_normal(self, place: int) -> float:
        """A number of the standard normal distribution, in one of DURATIONS parts that are equally probable."""
        return _NORMAL.inv_cdf(min(1 - 1e-6, max(1e-6, (place + self._random.random()) / DURATIONS)))

    def _merge_classes(self, queue: PastQueue, variant: int, *, changed: bool) -> Histogram:
        """The run times of about DURATIONS jobs of a queue: of each class its share."""
        whole: Histogram = {}
        for one in queue.classes:
            drawn = self._drawn.get((queue.name, one.name, changed)) or self._drawn[queue.name, one.name, False]
            add_histogram(whole, _pick_evenly(drawn[variant], round(DURATIONS * one.share)))
        return whole

    def _runtimes_of_all(self, at: int) -> list[Histogram]:
        """The run times of all queues that report them, each as often as its jobs run, VARIANTS times."""
        changed = tuple(queue.name for queue in self.queues if self.is_changed(queue, at))
        if changed not in self._all_runtimes:
            self._all_runtimes[changed] = [self._merge_runtimes(variant, changed) for variant in range(VARIANTS)]
        return self._all_runtimes[changed]

    def _merge_runtimes(self, variant: int, changed: Sequence[str]) -> Histogram:
        whole: Histogram = {}
        for queue in self.queues:
            if "runtimes" in queue.reported:
                drawn = self._runtimes[queue.name, queue.name in changed][variant]
                add_histogram(whole, {bucket: count * round(queue.per_min) for bucket, count in drawn.items()})
        return whole


def _pick_evenly(drawn: tuple[int, ...], count: int) -> Histogram:
    """So many of the sorted buckets, which have about the same percentiles."""
    found: Histogram = {}
    for place in range(count):
        bucket = drawn[(2 * place + 1) * DURATIONS // (2 * count)]
        found[bucket] = found.get(bucket, 0) + 1
    return found


@functools.cache
def _count_buckets(drawn: tuple[int, ...]) -> Histogram:
    return _pick_evenly(drawn, DURATIONS)


_SECOND = bucket_of(1.0)
# Most jobs start soon: they are added while few wait.
_WAITS = Counter(bucket_of(((place + 0.5) / WAITS) ** 3) - _SECOND for place in range(WAITS))


def _waits_of(latency_s: float) -> Histogram:
    """How long the jobs of a slot waited in which the oldest one waited for `latency_s`."""
    return _waits_up_to(bucket_of(latency_s))


@functools.cache
def _waits_up_to(longest: int) -> Histogram:
    found: Histogram = {}
    for below, count in _WAITS.items():
        bucket = max(0, longest + below)
        found[bucket] = found.get(bucket, 0) + count
    return found


def rhythm_at(at: float) -> float:
    """The load of a shop over the day (UTC), about 1 on average: busiest in the afternoon, quiet at night."""
    hour = at % DAY_S / HOUR_S
    return 1 + 0.38 * math.cos((hour - PEAK_HOUR) / 24 * 2 * math.pi)


def _span(start_s: int, hours: float) -> tuple[int, int]:
    return start_s, start_s + round(hours * HOUR_S)


def _within(at: int, span: tuple[int, int]) -> bool:
    return span[0] <= at < span[1]
