"""From what ended between looks to rates over the last five minutes. Pure: no Redis, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from dashboard.backends.base import FLOW_WINDOW_S
from dashboard.model import Quality, QueueFlow, QueueStats

# Percentiles of fewer run times than this would be an anecdote.
MIN_RUNTIMES = 5
MAX_RUNTIMES = 1000
# Shares of failures are told over a longer time than rates, in buckets, since few jobs may end in five minutes.
SHARE_WINDOW_S = 900.0
BUCKET_S = 15.0
_WORST = {Quality.EXACT: 0, Quality.ESTIMATED: 1, Quality.UNKNOWN: 2}


@dataclass(frozen=True, slots=True)
class _Entry:
    at: float
    flow: QueueFlow

    def share_since(self, start: float) -> float:
        """How much of the entry's span lies after `start`, 0..1."""
        if self.flow.span_s <= 0:
            return 1.0 if self.at > start else 0.0
        return max(0.0, min(1.0, (self.at - start) / self.flow.span_s))


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of one queue; None where nothing can be said."""

    throughput_per_min: float | None = None
    failed_per_min: float | None = None
    error_ratio: float | None = None
    runtime_p50_s: float | None = None
    runtime_p95_s: float | None = None
    quality: Quality = Quality.UNKNOWN
    reason: str | None = None
    finished_15min: float | None = None
    failed_15min: float | None = None
    finished_ago_s: float | None = None


class FlowWindow:
    """The last five minutes of one queue, and in buckets what ended in the last fifteen."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()
        self._buckets: deque[list[float]] = deque()  # [begin, finished, failed], only those with an event
        self._finished_at: float | None = None

    def add(self, at: float, flow: QueueFlow) -> None:
        """Take in what ended in the `flow.span_s` seconds before `at`."""
        self._entries.append(_Entry(at, flow))
        finished = flow.completed + flow.dead
        if flow.quality is Quality.UNKNOWN or finished <= 0:
            return
        self._finished_at = at
        if not self._buckets or at - self._buckets[-1][0] >= BUCKET_S:
            self._buckets.append([at, 0.0, 0.0])
        self._buckets[-1][1] += finished
        self._buckets[-1][2] += flow.dead

    def rates(self, now: float) -> Rates:
        """The rates of the five minutes before `now`.

        The time divided by is the time that was really looked at, so that a queue first seen a minute ago, or a stream
        that was trimmed meanwhile, is not told too low.
        """
        start = now - FLOW_WINDOW_S
        while self._entries and self._entries[0].at <= start:
            self._entries.popleft()
        while self._buckets and self._buckets[0][0] <= now - SHARE_WINDOW_S:
            self._buckets.popleft()
        known = [entry for entry in self._entries if entry.flow.quality is not Quality.UNKNOWN]
        worst = max(self._entries, key=lambda entry: (_WORST[entry.flow.quality], entry.at), default=None)
        newest = self._entries[-1].flow if self._entries else None
        if newest is None or not known or newest.quality is Quality.UNKNOWN:
            return Rates(reason=newest.reason if newest else None)
        shares = [(entry, entry.share_since(start)) for entry in known]
        span_s = sum(entry.flow.span_s * share for entry, share in shares)
        completed = sum(entry.flow.completed * share for entry, share in shares)
        dead = sum(entry.flow.dead * share for entry, share in shares)
        p50, p95 = self._percentiles()
        assert worst is not None
        quality = Quality.ESTIMATED if worst.flow.quality is Quality.UNKNOWN else worst.flow.quality
        return Rates(
            throughput_per_min=(completed + dead) * 60 / span_s if span_s > 0 else None,
            failed_per_min=dead * 60 / span_s if span_s > 0 else None,
            error_ratio=dead / (completed + dead) if completed + dead > 0 else None,
            runtime_p50_s=p50,
            runtime_p95_s=p95,
            quality=quality if span_s > 0 else Quality.UNKNOWN,
            reason=worst.flow.reason,
            finished_15min=sum(bucket[1] for bucket in self._buckets),
            failed_15min=sum(bucket[2] for bucket in self._buckets),
            finished_ago_s=None if self._finished_at is None else now - self._finished_at,
        )

    def _percentiles(self) -> tuple[float | None, float | None]:
        times: list[float] = []
        for entry in reversed(self._entries):
            times.extend(entry.flow.runtimes_s)
            if len(times) >= MAX_RUNTIMES:
                break
        if len(times) < MIN_RUNTIMES:
            return None, None
        times.sort()
        return _nearest_rank(times, 0.5), _nearest_rank(times, 0.95)


def _nearest_rank(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def with_rates(queue: QueueStats, rates: Rates) -> QueueStats:
    """`queue` with its rates filled in."""
    return msgspec.structs.replace(
        queue,
        throughput_per_min=rates.throughput_per_min,
        failed_per_min=rates.failed_per_min,
        error_ratio=rates.error_ratio,
        runtime_p50_s=rates.runtime_p50_s,
        runtime_p95_s=rates.runtime_p95_s,
        finished_15min=rates.finished_15min,
        failed_15min=rates.failed_15min,
        finished_ago_s=rates.finished_ago_s,
        flow_quality=rates.quality,
        flow_reason=rates.reason,
    )
