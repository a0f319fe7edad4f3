"""Totals of finished jobs that only grow, carried on from one leader to the next. Pure: no Redis, no clock.

The leader publishes them in its snapshot, so every process reports the same totals, and a new leader continues with
those that were published last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec.structs import replace

from ..model import FlowDelta, QueueFlow, QueueStats, Snapshot, SourceStats
from .rate_periods import known_ended, known_failed

Flows: TypeAlias = Mapping[tuple[str, str], FlowDelta]  # by (source, library)
_Address: TypeAlias = tuple[str, str, str]  # (source, library, key of the queue)


class _QueueTotals:
    """The totals of one queue, and its row without and with them as of the last sample."""

    __slots__ = ("_bare", "_failed", "_filled", "_finished")

    def __init__(self, finished: int | None = None, failed: int | None = None) -> None:
        self._finished, self._failed = finished, failed
        self._bare: QueueStats | None = None
        self._filled: QueueStats | None = None

    def add(self, finished: int | None, failed: int | None) -> None:
        """Add jobs; None where their number is unknown."""
        before = self._finished, self._failed
        self._finished, self._failed = _sum_known(self._finished, finished), _sum_known(self._failed, failed)
        if (self._finished, self._failed) != before:
            self._filled = None

    def fill(self, queue: QueueStats) -> QueueStats:
        """`queue` with its totals; the same object as before if neither changed, which saves comparing them."""
        if self._filled is None or self._bare is not queue:
            self._bare = queue
            self._filled = replace(queue, finished_total=self._finished, failed_total=self._failed)
        return self._filled


class FinishedTotals:
    """The totals of one leader. Not thread-safe.

    What finished without a leader is not in them, and neither is what a library reports of the time before a queue was
    first read: the leader before has counted these jobs already.
    """

    def __init__(self, former: Snapshot | None = None) -> None:
        """Continue with the totals of `former`, the snapshot that was published last; from 0 without one."""
        self._samples = 0
        self._queues: dict[_Address, _QueueTotals] = {}
        self._together: dict[str, int | None] = {}  # by source
        self._redis: dict[str, str] = {}  # the address of each source
        self._read: dict[tuple[str, str], set[str]] = {}  # keys of the queues with an earlier flow of this leader
        self._read_together: set[tuple[str, str]] = set()
        if former is None:
            return
        self._samples = former.samples_total or 0
        self._redis = {source.name: source.address for source in former.sources}
        self._together = {source.name: source.together_total for source in former.sources}
        for queue in former.queues:
            if queue.finished_total is not None or queue.failed_total is not None:
                totals = _QueueTotals(queue.finished_total, queue.failed_total)
                self._queues[queue.source, queue.backend, queue.key] = totals

    def add_sample(self, snapshot: Snapshot, flows: Flows) -> Snapshot:
        """The snapshot with its totals. `flows`: what finished since the sample before, of the libraries that could be
        read."""
        self._forget_replaced(snapshot.sources)
        for (source, library), delta in flows.items():
            self._count_queues(source, library, delta)
            self._count_together(source, library, delta.together)
        self._samples += 1
        queues = tuple(self._fill(queue) for queue in snapshot.queues)
        self._forget_gone(snapshot, flows)
        return replace(
            snapshot,
            samples_total=self._samples,
            queues=queues,
            sources=tuple(self._fill_source(source) for source in snapshot.sources),
        )

    def _forget_replaced(self, sources: tuple[SourceStats, ...]) -> None:
        """Forget the totals of a source whose name belongs to another server or database now."""
        for source in sources:
            if self._redis.get(source.name, source.address) != source.address:
                self._together.pop(source.name, None)
                for address in [address for address in self._queues if address[0] == source.name]:
                    del self._queues[address]
        self._redis = {source.name: source.address for source in sources}

    def _count_queues(self, source: str, library: str, delta: FlowDelta) -> None:
        before = self._read.get((source, library), set())
        for flow in delta.queues:
            address = source, library, flow.key
            totals = self._queues.get(address)
            if totals is None:
                totals = self._queues[address] = _QueueTotals()
            totals.add(*_counts_of(flow, is_first=flow.key not in before))
        self._read[source, library] = {flow.key for flow in delta.queues}

    def _count_together(self, source: str, library: str, flow: QueueFlow | None) -> None:
        if flow is None:
            self._read_together.discard((source, library))
            return
        finished, _ = _counts_of(flow, is_first=(source, library) not in self._read_together)
        self._together[source] = _sum_known(self._together.get(source), finished)
        self._read_together.add((source, library))

    def _fill(self, queue: QueueStats) -> QueueStats:
        totals = self._queues.get((queue.source, queue.backend, queue.key))
        return queue if totals is None else totals.fill(queue)

    def _fill_source(self, source: SourceStats) -> SourceStats:
        total = self._together.get(source.name)
        return source if total is None else replace(source, together_total=total)

    def _forget_gone(self, snapshot: Snapshot, flows: Flows) -> None:
        """Forget queues that are gone; those of a library that could not be read keep their totals."""
        present = {(queue.source, queue.backend, queue.key) for queue in snapshot.queues}
        for address in [address for address in self._queues.keys() - present if address[:2] in flows]:
            del self._queues[address]


def _counts_of(flow: QueueFlow, *, is_first: bool) -> tuple[int | None, int | None]:
    """(finished, failed), at least 0; None where unknown. What a first flow reports was over before it was read."""
    known = known_ended(flow), known_failed(flow)
    finished, failed = (None if count is None else 0 if is_first else max(0, count) for count in known)
    return finished, failed


def _sum_known(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more
