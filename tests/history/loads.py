"""Known loads on the real libraries, and what the history shows of them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis

from dashboard.history.columns import QUALITY_CODES, QUEUE
from dashboard.history.histogram import Histogram, add_histogram, percentiles
from dashboard.history.history_reader import HistoryRange, HistoryReader
from dashboard.history.series_keys import SeriesKey
from dashboard.history.slots import Slot
from dashboard.history.tiers import slot_of
from dashboard.services import Services, build_services
from dashboard.settings import Settings
from dashboard.store.redis_store import Store
from tests.waiting import wait_until

SLOT_S = 10
# A slot that was sampled for less than this is not compared with the truth.
WHOLE_MS = 9_900


class Ended(NamedTuple):
    """A job as it told of its end itself."""

    at: float
    failed: int
    took_s: float


@dataclass(frozen=True)
class Load:
    """So many jobs a second for so long; those that fail and what each takes recur in turn."""

    seconds: float = 12.0
    per_s: float = 20.0
    burst: int = 1  # so many are added at once
    fail: float = 0.1
    ms: Sequence[int] = (10, 10, 10, 10, 10, 10, 10, 10, 10, 50, 50, 200)

    def send(self, add: Callable[[int, bool], None]) -> int:
        """Add all jobs in time; how many they are."""
        began, added, total = time.monotonic(), 0, int(self.per_s * self.seconds)
        while added < total:
            next_at = began + min(total, added + self.burst) / self.per_s
            # By the clock: there is no condition to wait for.
            time.sleep(max(0.0, next_at - time.monotonic()))
            due = min(total, int((time.monotonic() - began) * self.per_s))
            for number in range(added, due):
                add(self.ms[number % len(self.ms)], number % 100 < self.fail * 100)
            added = max(added, due)
        return total


@dataclass
class Watched:
    """A dashboard that samples a server and records its history in a store."""

    services: Services
    began: float
    seen: list[Slot] = field(default_factory=list)

    def wait_for_slot(self) -> None:
        """Wait for samples that know what to count, and then for a slot of the history to begin."""
        self.wait_for_samples(3)
        clock = self.services.store
        slot_s = slot_of(clock.now_s(), SLOT_S)
        wait_until(lambda: slot_of(clock.now_s() - 1, SLOT_S) > slot_s, what="the next slot")

    def wait_for_samples(self, count: int) -> None:
        """Wait until so many more samples were published."""
        snapshots = self.services.snapshots
        since = snapshots.current().snapshot.sequence
        wait_until(lambda: snapshots.current().snapshot.sequence >= since + count, what="samples")


@contextmanager
def watched(url: str, store_url: str, **settings: Any) -> Iterator[Watched]:
    """A dashboard that records; what is open is stored at its end."""
    wanted = {"redis_url": url, "store_url": store_url, "alerts": "off", "sample_interval_s": 1.0} | settings
    services = build_services(Settings(**wanted), checks=True)
    services.start(runs_bulk=False)
    try:
        found = Watched(services, time.time())
        wait_until(lambda: any(one.discovered for one in _sources(services)), what="a search for queues")
        yield found
    finally:
        services.stop()


def _sources(services: Services) -> Sequence[Any]:
    return services.snapshots.current().snapshot.sources


class Shown(NamedTuple):
    """What the history tells of a queue, and what the jobs told themselves of the same time. None: unknown.

    `true_p95_s`: the bounds of the 95th percentile of the jobs that were looked at, whichever these are.
    """

    quality: str
    finished: int | None
    failed: int | None
    p95_s: float | None
    true_finished: int
    true_failed: int
    true_p95_s: tuple[float, float] | None
    gaps: int


def read_shown(
    store: Store, key: SeriesKey, ended: Sequence[Ended], *, gaps_allowed: bool = False, looked_at: float = 1.0
) -> Shown:
    """Compare all slots from the first to the last end of a job; with `gaps_allowed`, only those that were sampled as a
    whole and count all jobs. `looked_at`: at least this share of the jobs was looked at."""
    start_s, last_s = (slot_of(find(one.at for one in ended), SLOT_S) for find in (min, max))
    end_s = last_s + 2 * SLOT_S  # a job is counted in the sample after its end
    wanted = HistoryRange(start_s, end_s, SLOT_S)
    slots = HistoryReader(store).read_slots([key], wanted, end_s)[key]
    shown = [slot for slot in slots if slot.cells is not None and (not gaps_allowed or _is_whole(slot))]
    times = {slot.start_s for slot in shown}
    true = [one for one in ended if not gaps_allowed or slot_of(one.at, SLOT_S) in times]
    merged: Histogram = {}
    for slot in shown:
        runtimes = slot.cells[QUEUE.index_of("runtimes")] if slot.cells is not None else None
        if isinstance(runtimes, dict):
            add_histogram(merged, runtimes)
    took = sorted(one.took_s for one in true)
    return Shown(
        quality=_quality_of(shown),
        finished=_sum(shown, "finished"),
        failed=_sum(shown, "failed"),
        p95_s=percentiles(merged, [0.95])[0],
        true_finished=len(true),
        true_failed=sum(one.failed for one in true),
        true_p95_s=_bounds_of_p95(took, looked_at) if took else None,
        gaps=sum(slot.cells is None for slot in slots if slot.start_s <= last_s),
    )


def _bounds_of_p95(took: Sequence[float], looked_at: float) -> tuple[float, float]:
    """The 95th percentile of any such share of these sorted run times: those left out can be the longest ones or the
    shortest. Both bounds are the same if all were looked at."""
    known = math.ceil(looked_at * len(took))
    rank = min(known - 1, int(0.95 * known))
    return took[rank], took[rank + len(took) - known]


def _is_whole(slot: Slot) -> bool:
    """Whether all of the slot was sampled, and all its jobs were counted."""
    return slot.sampled_ms >= WHOLE_MS and _quality_of([slot]) != "unknown"


def _sum(slots: Sequence[Slot], column: str) -> int | None:
    """None if it is unknown in a slot in which jobs can have finished."""
    cells = [slot.cells[QUEUE.index_of(column)] for slot in slots if slot.cells is not None]
    known = [cell for cell in cells if isinstance(cell, int)]
    return sum(known) if known and len(known) == len(cells) else None


def _quality_of(slots: Sequence[Slot]) -> str:
    names: Mapping[int, str] = {code: quality.value for quality, code in QUALITY_CODES.items()}
    codes = [slot.cells[QUEUE.index_of("quality")] for slot in slots if slot.cells is not None]
    known = [code for code in codes if isinstance(code, int)]
    return names[min(known)] if known else "unknown"


def ended_jobs(client: redis.Redis, count: int) -> list[Ended]:
    """The ends of so many jobs, which they told in the list `ended`."""
    wait_until(lambda: client.llen("ended") >= count, what=f"{count} jobs")
    return [Ended(*json.loads(one)) for one in client.lrange("ended", 0, -1)]
