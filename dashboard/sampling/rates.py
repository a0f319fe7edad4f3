"""From what ended between looks to rates over the last five minutes. Pure: no Redis, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

import msgspec

from ..backends.base import FLOW_WINDOW_S
from ..model import Counts, Quality, QueueFlow, QueueStats, SourceStats, State, Value

# Percentiles of fewer run times than this would be an anecdote. Those in one bucket differ by 2 % at most.
MIN_RUNTIMES = 5
BUCKET_RATIO = 1.02
SHORTEST_S = 1e-6
# Looks are put together to stretches of this length: a busy queue has about twenty, one at rest has one.
PIECE_S = FLOW_WINDOW_S / 20
# Shares of failures are told over a longer time than rates, in buckets, since few jobs may end in five minutes.
SHARE_WINDOW_S = 900.0
BUCKET_S = 15.0
# The oldest job of a queue has changed when the new one was added so much later: clocks are not read at one instant.
HEAD_MOVES_S = 0.05
_LOG_RATIO = math.log(BUCKET_RATIO)
# Who finished a job less than this ago is there, whatever the library says.
WORKED_S = 15.0
_WORST = {Quality.EXACT: 0, Quality.ESTIMATED: 1, Quality.UNKNOWN: 2}


@dataclass(slots=True)
class _RatePeriod:
    """What ended in one stretch of time, of several looks of the same quality."""

    at: float  # its end
    span_s: float
    ended: int
    dead: int
    quality: Quality
    reason: str | None
    times: dict[int, int]  # how many run times are in each bucket
    rank: int  # of the quality: the higher, the worse

    def share_since(self, start: float) -> float:
        """How much of it lies after `start`, 0..1."""
        if self.span_s <= 0:
            return 1.0 if self.at > start else 0.0
        return max(0.0, min(1.0, (self.at - start) / self.span_s))

    def can_include(self, at: float, flow: QueueFlow, ended: int) -> bool:
        """Whether the `ended` jobs of `flow` by `at` belong into it, too: it is short, or nothing ended in either."""
        if flow.quality is not self.quality or flow.reason != self.reason:
            return False
        if not (self.ended or self.dead or flow.dead or ended):
            return True
        return at - (self.at - self.span_s) <= PIECE_S


@dataclass(slots=True)
class _RateSums:
    """What ended in several pieces."""

    span_s: float = 0.0
    ended: float = 0.0
    dead: float = 0.0
    worst: _RatePeriod | None = None  # the last one of the worst quality
    begin: float = math.inf  # of the earliest

    def add(self, piece: _RatePeriod, start: float) -> _RateSums:
        """These sums with as much of `piece` as lies after `start`."""
        begin = piece.at - piece.span_s
        self.begin = min(self.begin, begin)
        if self.worst is None or piece.rank >= self.worst.rank:
            self.worst = piece
        if piece.quality is not Quality.UNKNOWN:
            share = 1.0 if begin >= start else piece.share_since(start)
            self.span_s += piece.span_s * share
            self.ended += piece.ended * share
            self.dead += piece.dead * share
        return self

    def include(self, later: _RateSums) -> _RateSums:
        """These sums with those of later pieces."""
        if later.worst is not None and (self.worst is None or later.worst.rank >= self.worst.rank):
            self.worst = later.worst
        self.span_s += later.span_s
        self.ended += later.ended
        self.dead += later.dead
        return self


def _count_ended(flow: QueueFlow) -> int:
    """All that ended, as far as it was seen."""
    return flow.completed + flow.dead if flow.ended is None else max(flow.ended, flow.completed + flow.dead)


class QueueRates(Value, frozen=True, kw_only=True):
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
    progress_known: bool = False
    unlisted: tuple[State, ...] = ()
    unlisted_reason: str | None = None
    worked_off: bool = False  # jobs were seen to end in the last WORKED_S


class FlowWindow:
    """The last five minutes of one queue, and in buckets what ended in the last fifteen."""

    def __init__(self) -> None:
        self._pieces: deque[_RatePeriod] = deque()
        self._middle: _RateSums | None = None  # of the pieces but the first and the last one
        self._newest: QueueFlow | None = None  # without its run times
        self._first: tuple[_RatePeriod, QueueFlow] | None = None  # the first look, which may reach back
        self._first_at: float | None = None
        self._times: dict[int, int] = {}  # run times of all pieces by bucket
        self._percentiles: tuple[float | None, float | None] | None = None  # as of `_times`
        self._buckets: deque[list[float]] = deque()  # [begin, finished, failed], only those with an event
        self._finished = self._failed = 0.0  # the sums of the buckets
        self._finished_at: float | None = None
        self._worked_at: float | None = None  # as seen from one look to the next
        self._progress_known = False
        self._depth: int | None = None
        self._head_at: float | None = None  # when the oldest waiting job was added, by our clock
        self._hidden_at: dict[State, float] = {}  # when the ends of a state last left no trace
        self._uncounted_at: float | None = None  # when what ended altogether was last unknown for that
        # While nothing ends: the rates, which are then the same at each look but for `finished_ago_s`, and the queue
        # that they were last filled into, before and after.
        self._still: QueueRates | None = None
        self._filled: tuple[QueueStats, QueueStats] | None = None

    def add(self, at: float, flow: QueueFlow, queue: QueueStats | None = None, *, blur_s: float = 0.0) -> None:
        """Take in what ended in the `flow.span_s` seconds before `at`, and the queue's figures of that look, which were
        read in the `blur_s` seconds before."""
        if self._still is not None and self._goes_on(flow):
            ended = 0
            self._newest, piece = flow, self._pieces[-1]
            piece.at = at
            piece.span_s += flow.span_s
        else:
            self._still = None
            ended = _count_ended(flow)
            self._append_period(at, flow, ended)
        if flow.wrong_look_back:
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
        """Whether `flow` says the same as the one before, and that nothing ended."""
        newest = self._newest
        return (
            newest is not None
            and not (flow.completed or flow.dead or flow.ended or flow.runtimes_s or flow.hidden)
            and (flow.quality, flow.reason) == (newest.quality, newest.reason)
            and (flow.ended, flow.hidden) == (newest.ended, newest.hidden)
            and (flow.unlisted, flow.unlisted_reason) == (newest.unlisted, newest.unlisted_reason)
        )

    def fill_rates(self, queue: QueueStats, now: float, least_s: float = 0.0) -> QueueStats:
        """`queue` with the rates of the five minutes before `now`, none of less than `least_s`, as `with_rates`."""
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
        """Whether the rates hold on until something ends: nothing did in the whole time that they are told over."""
        if _seconds_since(self._worked_at, now) < WORKED_S or sum(piece.span_s for piece in self._pieces) < least_s:
            return False
        quiet = len(self._pieces) == 1 and not (self._pieces[0].ended or self._pieces[0].dead or self._buckets)
        return quiet and not (self._times or self._hidden_at) and self._uncounted_at is None

    def _has_moved(self, at: float, queue: QueueStats | None, blur_s: float) -> bool | None:
        """Whether jobs were taken from the queue since the last look: fewer wait, or the oldest one is another.

        None where that cannot be told: while as many or more wait, only the age of the oldest one tells.
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
        """The rates of the five minutes before `now`; none of less time than `least_s`.

        The time divided by is the time that was really looked at, so that a queue first seen a minute ago, or a stream
        that was trimmed meanwhile, is not told too low.
        """
        start = now - FLOW_WINDOW_S
        while self._pieces and self._pieces[0].at <= start:
            self._forget_period(self._pieces.popleft())
            self._middle = None
        while self._buckets and self._buckets[0][0] <= now - SHARE_WINDOW_S:
            _, finished, failed = self._buckets.popleft()
            self._finished -= finished
            self._failed -= failed
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
        told = long_enough and State.DEAD not in newest.hidden
        p50, p95 = self._runtime_percentiles()
        quality = Quality.ESTIMATED if newest.hidden or worst.quality is Quality.UNKNOWN else worst.quality
        return QueueRates(
            throughput_per_min=ended * 60 / span_s if counted else None,
            failed_per_min=dead * 60 / span_s if told else None,
            error_ratio=dead / ended if counted and told and ended > 0 else None,
            runtime_p50_s=p50,
            runtime_p95_s=p95,
            quality=quality if counted or told else Quality.UNKNOWN,
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

    def _sums_since(self, start: float) -> _RateSums:
        """The sums of the pieces after `start`; those of all but the first and the last one are kept."""
        first, last = self._pieces[0], self._pieces[-1]
        if first is last:
            return _RateSums().add(first, start)
        middle = self._middle
        if middle is None or middle.begin < start:
            middle = _RateSums()
            for piece in islice(self._pieces, 1, len(self._pieces) - 1):
                middle.add(piece, start)
            self._middle = middle
        return _RateSums().add(first, start).include(middle).add(last, start)

    def _finished_ago_s(self, now: float) -> float | None:
        return None if self._finished_at is None else now - self._finished_at

    def _append_period(self, at: float, flow: QueueFlow, ended: int) -> None:
        first = self._newest is None
        self._newest = msgspec.structs.replace(flow, runtimes_s=()) if flow.runtimes_s else flow
        if not self._pieces or not self._pieces[-1].can_include(at, flow, ended):
            self._pieces.append(_RatePeriod(at, 0.0, 0, 0, flow.quality, flow.reason, {}, _WORST[flow.quality]))
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
        """Take out what the first look told; run times stand, since those that were seen are right."""
        if self._first is None:
            return
        (piece, flow), self._first = self._first, None
        self._middle = None
        piece.span_s -= flow.span_s
        piece.ended -= _count_ended(flow)
        piece.dead -= flow.dead
        if self._buckets and self._buckets[0][0] == self._first_at:
            self._count_in_bucket(self._buckets[0], -_count_ended(flow), -flow.dead)

    def _count_in_bucket(self, bucket: list[float], finished: int, failed: int) -> None:
        """Add to a bucket, and so to the sums: whole numbers, so that these stay right whatever is taken off again."""
        bucket[1] += finished
        bucket[2] += failed
        self._finished += finished
        self._failed += failed

    def _forget_period(self, piece: _RatePeriod) -> None:
        for bucket, count in piece.times.items():
            self._times[bucket] -= count
            if not self._times[bucket]:
                del self._times[bucket]
        if piece.times:
            self._percentiles = None

    def _runtime_percentiles(self) -> tuple[float | None, float | None]:
        """The median and the 95th percentile of the run times, by nearest rank."""
        if self._percentiles is None:
            count = sum(self._times.values())
            ordered = sorted(self._times.items()) if count >= MIN_RUNTIMES else []
            self._percentiles = _nearest_rank(ordered, count, 0.5), _nearest_rank(ordered, count, 0.95)
        return self._percentiles


def _nearest_rank(ordered: list[tuple[int, int]], count: int, share: float) -> float | None:
    """The run time at that share of `count` in the buckets; None without any."""
    left = min(count - 1, int(share * count))
    for bucket, times in ordered:
        left -= times
        if left < 0:
            return float(BUCKET_RATIO**bucket)
    return None


def _inexact_reason(newest: QueueFlow, worst: _RatePeriod) -> str | None:
    """Why the rates are not exact."""
    if newest.hidden:
        return newest.reason
    if worst.quality is Quality.UNKNOWN and worst.reason:
        return f"For a part of the time: {worst.reason}"
    return worst.reason


def _seconds_since(at: float | None, now: float) -> float:
    return float("inf") if at is None else now - at


@dataclass(frozen=True, slots=True)
class TotalRates:
    """Rates of many queues together; None where no queue tells.

    `throughput_unknown`, `failed_unknown`: of how many queues the sums lack what finished, and what failed.
    """

    throughput_per_min: float | None
    failed_per_min: float | None
    error_ratio: float | None
    throughput_unknown: int = 0
    failed_unknown: int = 0


def total_rates(queues: Iterable[QueueStats], sources: Iterable[SourceStats] = ()) -> TotalRates:
    """The sums of what is known; the ratio is that of the queues that tell both what finished and what failed."""
    queues, sources = list(queues), list(sources)
    finished = [queue.throughput_per_min for queue in queues] + [source.together_per_min for source in sources]
    known = [value for value in finished if value is not None]
    failed = [queue.failed_per_min for queue in queues if queue.failed_per_min is not None]
    both = [queue for queue in queues if queue.failed_per_min is not None and queue.throughput_per_min is not None]
    of_both = sum([queue.throughput_per_min or 0.0 for queue in both])
    together = {source.name for source in sources if source.together_per_min is not None}
    return TotalRates(
        throughput_per_min=sum(known) if known else None,
        failed_per_min=sum(failed) if failed else None,
        error_ratio=sum([queue.failed_per_min or 0.0 for queue in both]) / of_both if of_both else None,
        throughput_unknown=_count_unknown(queues, attrgetter("throughput_per_min"), together),
        failed_unknown=_count_unknown(queues, attrgetter("failed_per_min"), ()),
    )


def _count_unknown(
    queues: Sequence[QueueStats], figure: Callable[[QueueStats], float | None], together: Container[str]
) -> int:
    """How many queues lack a figure that no entry of theirs together tells; `together` = sources that tell it."""
    if None not in map(figure, queues):
        return 0
    shared: dict[tuple[str, str, str | None], list[QueueStats]] = {}
    alone: dict[tuple[str, str, str | None], list[QueueStats]] = {}
    for queue in queues:
        (shared if queue.shared else alone).setdefault((queue.source, queue.backend, queue.prefix), []).append(queue)
    count = 0
    for where in shared.keys() | alone.keys():
        told = where[0] in together or any(figure(queue) is not None for queue in shared.get(where, ()))
        count += 0 if told else sum(figure(queue) is None for queue in alone.get(where) or shared[where])
    return count


def with_rates(queue: QueueStats, rates: QueueRates) -> QueueStats:
    """`queue` with its rates filled in.

    Where the library was told to keep no ended jobs, an empty list of them says nothing: its count becomes unknown, and
    a note tells why. That nobody works there is not believed while jobs end: workers whose connections have no name, or
    that Redis forgot when it was emptied, are seen by what they do.
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
