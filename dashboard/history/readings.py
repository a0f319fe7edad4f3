"""What one sample says about each series, over the time since the sample before. Pure: no Redis, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..model import Counts, FlowDelta, Quality, QueueFlow, QueueStats, RedisHealth, Snapshot, SourceStats
from ..sampling.rate_periods import count_ended, known_ended, known_failed
from .class_counts import SPAN_TOLERANCE_S, ClassCounts, Place
from .columns import QUALITY_CODES, QUEUE, SOURCE, Cell, Cells
from .histogram import Histogram, add_histogram, histogram_of_jobs
from .series_keys import SeriesKey

# Two samples of a source that are further apart than this many intervals, and than this time, have a gap between them.
GAP_INTERVALS = 5
GAP_S = 30.0

Flows = Mapping[tuple[str, str], FlowDelta]  # by (source, library)


class Reading(NamedTuple):
    """The cells of a series at `end_s`, with what was counted since `begin_s`; both in seconds since 1970."""

    key: SeriesKey
    begin_s: float
    end_s: float
    cells: Cells


class _Ends(NamedTuple):
    """The jobs of a queue that finished between two samples; None where unknown."""

    quality: Quality | None = Quality.UNKNOWN  # None: these jobs are left out, and say nothing about others
    uncounted_s: float = 0.0
    finished: int | None = None
    failed: int | None = None
    retried: int | None = None
    runtimes: Histogram | None = None
    waits: Histogram | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The columns that all series of finished jobs begin with."""
        quality = None if self.quality is None else QUALITY_CODES[self.quality]
        return quality, round(self.uncounted_s * 1000), self.finished, self.failed


class SampleReadings:
    """Turns the samples of one leader into readings, and counts the jobs of each class. Not thread-safe."""

    def __init__(self, classes: ClassCounts) -> None:
        self._classes = classes
        self._sampled_at: dict[str, float] = {}  # by source; absent after a gap
        self._health: dict[str, RedisHealth] = {}
        self._counted: set[tuple[str, str, str]] = set()  # (source, library, key) of the queues with an earlier flow
        self._unfinished: dict[tuple[str, str, str], int] = {}  # the same -> jobs that had not finished

    def read_sample(self, snapshot: Snapshot, flows: Flows) -> Iterator[Reading]:
        """The readings of a sample: of each queue of a source that was reached, of the sources, and of the totals.

        The first sample of a source after a gap, and of a queue that is new, counts no jobs: when they finished is not
        known.
        """
        at = snapshot.sampled_at
        begin = {
            source.name: self._begin_of(source.name, at, snapshot.interval_s)
            for source in snapshot.sources
            if source.reachable
        }
        self._sampled_at = dict.fromkeys(begin, at)
        flow_of = {(*of, flow.key): flow for of, delta in flows.items() if of[0] in begin for flow in delta.queues}
        rows: dict[str, list[Cells]] = {source: [] for source in begin}
        unfinished: dict[tuple[str, str, str], int] = {}
        present: set[Place] = set()
        self._classes.begin_sample(at)
        for queue in snapshot.queues:
            if queue.source in begin:
                present.add(place := (queue.source, queue.backend, queue.name))
                where, passed_s = (queue.source, queue.backend, queue.key), at - begin[queue.source]
                flow, is_first = flow_of.get(where), where not in self._counted
                if passed_s and not (flow and is_first):
                    self._classes.add_flow(place, flow, passed_s, at)
                cells = self._read_queue(queue, _ends_of(flow, passed_s, is_first=is_first), unfinished)
                rows[queue.source].append(cells)
                key = SeriesKey(QUEUE, queue.source, queue.backend, queue.name)
                yield Reading(key, begin[queue.source], at, cells)
        self._classes.end_missing(begin, present)
        self._counted, self._unfinished = set(flow_of), unfinished
        yield from self._read_totals(snapshot, begin, rows)

    def _begin_of(self, source: str, at: float, interval_s: float) -> float:
        """When the time that this sample counts began: `at` after a gap, or when the clock went back."""
        last = self._sampled_at.get(source, at)
        return last if 0 <= at - last <= max(GAP_S, GAP_INTERVALS * interval_s) else at

    def _read_queue(
        self,
        queue: QueueStats,
        ends: _Ends,
        unfinished: dict[tuple[str, str, str], int],
    ) -> Cells:
        where = queue.source, queue.backend, queue.key
        counts = queue.counts
        enqueued = None
        here = _count_unfinished(counts)
        if here is not None:
            unfinished[where] = here
            before = self._unfinished.get(where)
            if before is not None and ends.finished is not None:
                # Jobs that were deleted or moved away would make it negative.
                enqueued = max(0, here - before + ends.finished)
        levels = (queue.depth, counts.active, counts.scheduled, counts.retrying, counts.dead)
        latency_ms = _scaled(queue.latency_s, 1000)
        return (*levels, latency_ms, queue.workers, *ends.cells, enqueued, ends.retried, ends.runtimes, ends.waits)

    def _read_totals(
        self, snapshot: Snapshot, begin: Mapping[str, float], rows: Mapping[str, list[Cells]]
    ) -> Iterator[Reading]:
        at = snapshot.sampled_at
        for source in snapshot.sources:
            if source.name in begin:
                yield Reading(
                    SeriesKey(SOURCE, source.name),
                    begin[source.name],
                    at,
                    self._read_source(source, at - begin[source.name]),
                )
                yield Reading(SeriesKey(QUEUE, source.name), begin[source.name], at, sum_queues(rows[source.name]))
        if begin:
            longest = min(begin.values())
            sampled = [None] * (len(SOURCE.columns) - 1)
            yield Reading(SeriesKey(SOURCE), longest, at, (round((at - longest) * 1000), *sampled))
            yield Reading(SeriesKey(QUEUE), longest, at, sum_queues([row for of in rows.values() for row in of]))

    def _read_source(self, source: SourceStats, passed_s: float) -> Cells:
        health, before = source.health, self._health.get(source.name)
        self._health[source.name] = health
        same = before is not None and before.run_id is not None and before.run_id == health.run_id
        return (
            round(passed_s * 1000),
            health.used_memory_bytes,
            health.maxmemory_bytes,
            health.clients,
            health.blocked_clients,
            health.ops_per_s,
            health.keys,
            _scaled(health.fragmentation_ratio, 1000),
            _scaled(health.keyspace_hit_ratio, 1000),
            health.replica_lag_bytes,
            _increase(before.evicted_keys, health.evicted_keys) if before is not None and same else None,
            _increase(before.rejected_connections, health.rejected_connections)
            if before is not None and same
            else None,
        )


def _ends_of(flow: QueueFlow | None, passed_s: float, *, is_first: bool) -> _Ends:
    if flow is None or flow.quality is Quality.UNKNOWN:
        return _Ends(uncounted_s=passed_s)
    if is_first or not passed_s:
        return _Ends(quality=None, uncounted_s=passed_s)
    missing_s = passed_s - flow.span_s
    ended = count_ended(flow)
    finished = known_ended(flow)
    completed_hidden = finished is None
    return _Ends(
        quality=Quality.UNKNOWN if completed_hidden else flow.quality,
        uncounted_s=passed_s if completed_hidden else missing_s if missing_s > SPAN_TOLERANCE_S else 0.0,
        finished=finished,
        failed=known_failed(flow),
        retried=flow.retried,
        runtimes=histogram_of_jobs(flow.runtimes_s, ended) or None,
        waits=histogram_of_jobs(flow.waits_s, ended) or None,
    )


def _count_unfinished(counts: Counts) -> int | None:
    """The jobs of a queue that have not finished; None where the number of waiting or running ones is unknown."""
    if counts.waiting is None or counts.active is None:
        return None
    others = (counts.scheduled, counts.retrying, counts.blocked)
    return counts.waiting + counts.active + sum(count for count in others if count is not None)


def _scaled(value: float | None, factor: int) -> int | None:
    """A figure as a whole number; None for one that no number can hold, as of a job with a hostile time."""
    return None if value is None or not math.isfinite(value) else round(value * factor)


def _increase(before: int | None, now: int | None) -> int | None:
    """How much a counter of a server grew; None if it started again from 0 or is unknown."""
    return now - before if before is not None and now is not None and now >= before else None


def sum_queues(rows: list[Cells]) -> Cells:
    """The cells of several queues of the same moment as those of all of them: sums, the highest age, all durations.

    The sums are of the queues where the figure is known, and None if it is known of none; `quality` is then that of the
    worst of them, and at most ESTIMATED if some queue is missing in the number of finished jobs. Enqueued jobs are
    None unless they are known of each queue whose finished jobs are.
    """
    found: list[Cell] = []
    for place, column in enumerate(QUEUE.columns):
        known = [cells[place] for cells in rows if cells[place] is not None]
        if column.name in ("runtimes", "waits"):
            found.append(_sum_histograms(known))
            continue
        numbers = [cell for cell in known if isinstance(cell, int)]
        if column.name in ("latency_ms", "uncounted_ms"):
            found.append((max if column.name == "latency_ms" else min)(numbers, default=None))
        elif column.name == "quality":
            found.append(_sum_qualities(numbers))
        elif column.name == "enqueued" and any(_lacks_enqueued(cells) for cells in rows):
            found.append(None)  # beside more jobs that finished, the rest would look like a backlog that falls
        else:
            found.append(sum(numbers) if numbers else None)
    return tuple(found)


def _lacks_enqueued(cells: Cells) -> bool:
    """Whether it is known how many jobs of a queue finished, but not how many were added."""
    return cells[QUEUE.index_of("finished")] is not None and cells[QUEUE.index_of("enqueued")] is None


def _sum_histograms(histograms: list[Cell]) -> Histogram | None:
    merged: Histogram = {}
    for histogram in histograms:
        if isinstance(histogram, dict):
            add_histogram(merged, histogram)
    return merged or None


def _sum_qualities(codes: list[int]) -> int:
    unknown = QUALITY_CODES[Quality.UNKNOWN]
    known = [code for code in codes if code != unknown]
    if not known:
        return unknown
    return min(known) if len(known) == len(codes) else min(*known, QUALITY_CODES[Quality.ESTIMATED])
