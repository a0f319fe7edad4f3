"""Rates over the last five minutes, from the jobs that finished between samples. Pure: no Redis, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import islice

import msgspec

from ..backends.base import FLOW_WINDOW_S
from ..model import Counts, Quality, QueueFlow, QueueStats, State, Value
from .rate_periods import RANKS, RatePeriod, RateSums, count_ended

# Percentiles of fewer run times would mean nothing. Run times in one bucket differ by at most 2%.
MIN_RUNTIMES = 5
BUCKET_RATIO = 1.02
SHORTEST_S = 1e-6
# Failures are counted over a longer window than rates, in buckets, since few jobs may finish in five minutes.
SHARE_WINDOW_S = 900.0
BUCKET_S = 15.0
# The oldest job of a queue has changed if the new one was added this much later: clocks are not read simultaneously.
HEAD_MOVES_S = 0.05
_LOG_RATIO = math.log(BUCKET_RATIO)
# If a job finished less than this ago, there is a worker, whatever the library reports.
WORKED_S = 15.0
PART_OF_TIME = "For part of the time: "


class QueueRates(Value, frozen=True, kw_only=True):
    """Rates of one queue; None where unknown."""

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
    progress_known: bool = False
    unlisted: tuple[State, ...] = ()
    unlisted_reason: str | None = None
    worked_off: bool = False  # jobs finished in the last WORKED_S


class FlowWindow:
    """The last five minutes of one queue, and in buckets what finished in the last fifteen."""

    def __init__(self) -> None:
        self._pieces: deque[RatePeriod] = deque()
        self._middle: RateSums | None = None  # of all periods except the first and the last
        self._newest: QueueFlow | None = None  # without its run times, waits and classes
        self._first: tuple[RatePeriod, QueueFlow] | None = None  # the first sample, which may look back
        self._first_at: float | None = None
        self._times: dict[int, int] = {}  # run times of all periods by bucket
        self._percentiles: tuple[float | None, float | None] | None = None  # of `_times`
        self._buckets: deque[list[float]] = deque()  # [start, finished, failed], only those with finished jobs
        self._finished = self._failed = 0.0  # the sums of the buckets
        self._finished_at: float | None = None
        self._worked_at: float | None = None  # seen from one sample to the next
        self._progress_known = False
        self._depth: int | None = None
        self._head_at: float | None = None  # when the oldest waiting job was added, by our clock
        self._hidden_at: dict[State, float] = {}  # by state, when finished jobs of it last left no trace
        self._uncounted_at: float | None = None  # when the total was last unknown for that reason
        # While nothing finishes: the rates, which are then the same in each sample except for `finished_ago_s`, and the
        # queue that they were last filled into, before and after.
        self._still: QueueRates | None = None
        self._filled: tuple[QueueStats, QueueStats] | None = None

    def add(self, at: float, flow: QueueFlow, queue: QueueStats | None = None, *, blur_s: float = 0.0) -> None:
        """Add what finished in the `flow.span_s` seconds before `at`, and the queue's figures of that sample, which
        were read in the `blur_s` seconds before."""
        if self._still is not None and self._goes_on(flow):
            ended = 0
            self._newest, piece = flow, self._pieces[-1]
            piece.at = at
            piece.span_s += flow.span_s
        else:
            self._still = None
            ended = count_ended(flow)
            self._append_period(at, flow, ended)
        if flow.incomplete_start:
            self._forget_first()
            self._still = None
        moved = self._has_moved(at, queue, blur_s)
        known = flow.quality is not Quality.UNKNOWN
        for state in flow.hidden:
            self._hidden_at[state] = at
        if flow.hidden and flow.ended is None:
            self._uncounted_at = at
        finished = ended if known else 0
        counted = known and (not flow.hidden or flow.ended is not None)
        if flow.progressed or (not counted and moved):
            self._finished_at = self._worked_at = at
            self._still = None
        progress_known = counted or moved is not None or flow.progressed is not None
        if progress_known is not self._progress_known:
            self._progress_known, self._still = progress_known, None
        if finished <= 0:
            return
        self._finished_at = at
        if flow.span_s < FLOW_WINDOW_S:
            self._worked_at = at
        if not self._buckets or at - self._buckets[-1][0] >= BUCKET_S:
            self._buckets.append([at, 0.0, 0.0])
        self._count_in_bucket(self._buckets[-1], finished, flow.dead)

    def _goes_on(self, flow: QueueFlow) -> bool:
        """Whether `flow` reports the same as the previous one, and nothing finished."""
        newest = self._newest
        return (
            newest is not None
            and not (flow.completed or flow.dead or flow.ended or flow.runtimes_s or flow.hidden)
            and (flow.quality, flow.reason) == (newest.quality, newest.reason)
            and (flow.ended, flow.hidden) == (newest.ended, newest.hidden)
            and (flow.unlisted, flow.unlisted_reason) == (newest.unlisted, newest.unlisted_reason)
        )

    def fill_rates(self, queue: QueueStats, now: float, least_s: float = 0.0) -> QueueStats:
        """`with_rates` for the five minutes before `now`; no rates over less than `least_s`."""
        if self._still is None or self._filled is None or self._pieces[0].at <= now - FLOW_WINDOW_S:
            rates = self.rates(now, least_s)
            self._still = rates if self._is_still(now, least_s) else None
            filled = with_rates(queue, rates)
        else:
            former, filled = self._filled
            ago_s = self._finished_ago_s(now)
            if former is not queue:
                filled = with_rates(queue, msgspec.structs.replace(self._still, finished_ago_s=ago_s))
            elif filled.finished_ago_s != ago_s:
                filled = msgspec.structs.replace(filled, finished_ago_s=ago_s)
        self._filled = queue, filled
        return filled

    def _is_still(self, now: float, least_s: float) -> bool:
        """Whether the rates stay the same until a job finishes: none did in the whole time that they cover."""
        if _seconds_since(self._worked_at, now) < WORKED_S or sum(piece.span_s for piece in self._pieces) < least_s:
            return False
        quiet = len(self._pieces) == 1 and not (self._pieces[0].ended or self._pieces[0].dead or self._buckets)
        return quiet and not (self._times or self._hidden_at) and self._uncounted_at is None

    def _has_moved(self, at: float, queue: QueueStats | None, blur_s: float) -> bool | None:
        """Whether jobs left the queue since the last sample: it has fewer, or a different oldest one.

        None if unknown: if the queue has as many jobs or more, only the age of the oldest one can show it.
        """
        if queue is None or queue.depth is None:
            self._depth, self._head_at = None, None
            return None
        depth, head_at = self._depth, self._head_at
        self._depth = queue.depth
        age_s = queue.latency_s if queue.depth else None
        found = None if age_s is None else at - age_s
        replaced = head_at is not None and found is not None and found > head_at + HEAD_MOVES_S + blur_s
        if head_at is None or found is None or replaced or found < head_at:
            self._head_at = found
        if depth is not None and (queue.depth < depth or replaced):
            return True
        return None if found is None else False

    def rates(self, now: float, least_s: float = 0.0) -> QueueRates:
        """The rates of the five minutes before `now`; none over less than `least_s`.

        The divisor is the time that was actually observed, so that the rates are not too low for a queue first seen a
        minute ago, or a stream that was trimmed in the meantime.
        """
        start = now - FLOW_WINDOW_S
        self._forget_old(start, now - SHARE_WINDOW_S)
        newest = self._newest
        if newest is None or not self._pieces or newest.quality is Quality.UNKNOWN:
            return QueueRates(
                reason=newest.reason if newest and self._pieces else None,
                finished_ago_s=self._finished_ago_s(now),
                progress_known=self._progress_known,
                worked_off=_seconds_since(self._worked_at, now) < WORKED_S,
            )
        sums = self._sums_since(start)
        span_s, ended, dead, worst = sums.span_s, sums.ended, sums.dead, sums.worst or self._pieces[0]
        long_enough = span_s > 0 and span_s >= least_s
        counted = long_enough and (not newest.hidden or newest.ended is not None)
        failures_counted = long_enough and State.DEAD not in newest.hidden
        p50, p95 = self._runtime_percentiles()
        quality = Quality.ESTIMATED if newest.hidden or worst.quality is Quality.UNKNOWN else worst.quality
        return QueueRates(
            throughput_per_min=ended * 60 / span_s if counted else None,
            failed_per_min=dead * 60 / span_s if failures_counted else None,
            error_ratio=dead / ended if counted and failures_counted and ended > 0 else None,
            runtime_p50_s=p50,
            runtime_p95_s=p95,
            quality=quality if counted or failures_counted else Quality.UNKNOWN,
            reason=_inexact_reason(newest, worst),
            finished_15min=None if _seconds_since(self._uncounted_at, now) < SHARE_WINDOW_S else self._finished,
            failed_15min=None
            if _seconds_since(self._hidden_at.get(State.DEAD), now) < SHARE_WINDOW_S
            else self._failed,
            finished_ago_s=self._finished_ago_s(now),
            progress_known=self._progress_known,
            worked_off=_seconds_since(self._worked_at, now) < WORKED_S,
            unlisted=newest.unlisted,
            unlisted_reason=newest.unlisted_reason,
        )

    def _forget_old(self, start: float, share_start: float) -> None:
        """Drop the periods until `start`, and the buckets until `share_start`."""
        while self._pieces and self._pieces[0].at <= start:
            self._forget_period(self._pieces.popleft())
            self._middle = None
        while self._buckets and self._buckets[0][0] <= share_start:
            _, finished, failed = self._buckets.popleft()
            self._finished -= finished
            self._failed -= failed

    def _sums_since(self, start: float) -> RateSums:
        """The sums of the periods after `start`; those of all except the first and the last are cached."""
        first, last = self._pieces[0], self._pieces[-1]
        if first is last:
            return RateSums().add(first, start)
        middle = self._middle
        if middle is None or middle.begin < start:
            middle = RateSums()
            for piece in islice(self._pieces, 1, len(self._pieces) - 1):
                middle.add(piece, start)
            self._middle = middle
        return RateSums().add(first, start).include(middle).add(last, start)

    def _finished_ago_s(self, now: float) -> float | None:
        return None if self._finished_at is None else now - self._finished_at

    def _append_period(self, at: float, flow: QueueFlow, ended: int) -> None:
        first = self._newest is None
        sampled = flow.runtimes_s or flow.waits_s or flow.classes
        self._newest = msgspec.structs.replace(flow, runtimes_s=(), waits_s=(), classes=None) if sampled else flow
        if not self._pieces or not self._pieces[-1].can_include(at, flow, ended):
            self._pieces.append(RatePeriod(at, 0.0, 0, 0, flow.quality, flow.reason, {}, RANKS[flow.quality]))
            self._middle = None
        piece = self._pieces[-1]
        if first:
            self._first, self._first_at = (piece, self._newest), at
        piece.at = at
        piece.span_s += flow.span_s
        piece.ended += ended
        piece.dead += flow.dead
        for time_s in flow.runtimes_s:
            bucket = round(math.log(max(time_s, SHORTEST_S)) / _LOG_RATIO)
            piece.times[bucket] = piece.times.get(bucket, 0) + 1
            self._times[bucket] = self._times.get(bucket, 0) + 1
        if flow.runtimes_s:
            self._percentiles = None

    def _forget_first(self) -> None:
        """Subtract what the first sample reported; keep its run times, since those were actually observed."""
        if self._first is None:
            return
        (piece, flow), self._first = self._first, None
        self._middle = None
        piece.span_s -= flow.span_s
        piece.ended -= count_ended(flow)
        piece.dead -= flow.dead
        if self._buckets and self._buckets[0][0] == self._first_at:
            self._count_in_bucket(self._buckets[0], -count_ended(flow), -flow.dead)

    def _count_in_bucket(self, bucket: list[float], finished: int, failed: int) -> None:
        """Add to a bucket and to the sums. Only whole numbers, so that the sums stay exact after subtractions."""
        bucket[1] += finished
        bucket[2] += failed
        self._finished += finished
        self._failed += failed

    def _forget_period(self, piece: RatePeriod) -> None:
        for bucket, count in piece.times.items():
            self._times[bucket] -= count
            if not self._times[bucket]:
                del self._times[bucket]
        if piece.times:
            self._percentiles = None

    def _runtime_percentiles(self) -> tuple[float | None, float | None]:
        """The median and the 95th percentile of the run times, by nearest rank; None for fewer than MIN_RUNTIMES."""
        if self._percentiles is None:
            count = sum(self._times.values())
            ordered = sorted(self._times.items()) if count >= MIN_RUNTIMES else []
            self._percentiles = _nearest_rank(ordered, count, 0.5), _nearest_rank(ordered, count, 0.95)
        return self._percentiles


def _nearest_rank(ordered: list[tuple[int, int]], count: int, share: float) -> float | None:
    """The run time at that share of `count` in the buckets; None if they are empty."""
    left = min(count - 1, int(share * count))
    for bucket, times in ordered:
        left -= times
        if left < 0:
            return float(BUCKET_RATIO**bucket)
    return None


def join_reasons(reasons: Iterable[str], most: int = 3) -> str:
    """At most `most` reasons why rates are not exact, as one sentence: "A; B; for part of the time, C". "" for none."""
    found = sorted(set(reasons), key=lambda reason: (reason.startswith(PART_OF_TIME), reason))[:most]
    whole = [reason.rstrip(".") for reason in found if not reason.startswith(PART_OF_TIME)]
    partly = [reason.removeprefix(PART_OF_TIME).rstrip(".") for reason in found if reason.startswith(PART_OF_TIME)]
    return "; ".join([*whole, *([f"for part of the time, {'; '.join(partly)}"] if partly else [])])


def _inexact_reason(newest: QueueFlow, worst: RatePeriod) -> str | None:
    """Why the rates are not exact."""
    if newest.hidden:
        return newest.reason
    if worst.quality is Quality.UNKNOWN and worst.reason:
        return f"{PART_OF_TIME}{worst.reason}"
    return worst.reason


def _seconds_since(at: float | None, now: float) -> float:
    return float("inf") if at is None else now - at


def with_rates(queue: QueueStats, rates: QueueRates) -> QueueStats:
    """`queue` with its rates filled in.

    If the library is configured not to keep finished jobs, an empty list of them proves nothing: its count becomes
    unknown, and a note explains why. A count of 0 workers becomes unknown while jobs finish: there can be workers whose
    connections have no name, or that are missing in Redis since it was flushed.
    """
    empty = [state for state in rates.unlisted if queue.counts.of(state) == 0]
    return msgspec.structs.replace(
        queue,
        workers=None if queue.workers == 0 and rates.worked_off else queue.workers,
        counts=_without_states(queue.counts, empty) if empty else queue.counts,
        notes=(*queue.notes, rates.unlisted_reason) if rates.unlisted_reason else queue.notes,
        unlisted_reason=rates.unlisted_reason,
        throughput_per_min=rates.throughput_per_min,
        failed_per_min=rates.failed_per_min,
        error_ratio=rates.error_ratio,
        runtime_p50_s=rates.runtime_p50_s,
        runtime_p95_s=rates.runtime_p95_s,
        finished_15min=rates.finished_15min,
        failed_15min=rates.failed_15min,
        finished_ago_s=rates.finished_ago_s,
        progress_known=rates.progress_known,
        flow_quality=rates.quality,
        flow_reason=rates.reason,
    )


def _without_states(counts: Counts, states: Iterable[State]) -> Counts:
    return msgspec.structs.replace(counts, **{state.value: None for state in states})
