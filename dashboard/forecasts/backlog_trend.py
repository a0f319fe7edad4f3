"""How fast the number of waiting jobs changes, over the shortest time that says so precisely. Pure: no Redis, no clock.

The number is watched in steps of a few seconds. The scatter of the steps says how far the change over a window can be
chance: jobs that arrive in bursts scatter more than those that arrive evenly. A longer window is used while the one
before is not precise enough, and as long as its older part agrees with the newer one: when workers were started two
minutes ago, the time before says nothing about the next minutes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

STEP_S = 5.0
WINDOWS_S = (60.0, 120.0, 300.0, 900.0, 3600.0)
# The beginnings of a window are so far apart, as a share of its length: that much longer it can be.
_SPACING = 1 / 10
# Scatter of fewer steps means nothing.
MIN_STEPS = 5
# After a longer time without a sample, everything before is forgotten.
GAP_S = 90.0
# A change that is known so precisely needs no longer window.
PRECISE = 0.03
# The older part of a window agrees with the newer one within so many standard deviations, and this share.
_AGREES_SIGMAS, _AGREES_SHARE = 2.0, 0.05
# Rates are unknown if finished jobs, or workers, were not counted for a larger share of the window.
_UNCOUNTED_SHARE = 0.1


class BacklogSample(NamedTuple):
    """One queue in one sample. `finished`: jobs since the sample before; None where they are not counted."""

    at: float  # seconds on any clock that does not jump
    depth: int
    finished: int | None = None
    workers: int | None = None


class _Mark(NamedTuple):
    """Sums since the queue is watched."""

    at: float
    depth: float
    steps: float
    squares: float  # of the changes from step to step
    finished: float
    uncounted_s: float
    worker_s: float
    unknown_workers_s: float
    idle_s: float  # no job was waiting


# As bytes, a mark takes a third of the room: there are dozens of them for each queue.
_PACKED = Struct("9d")
_PACKED_AT = Struct("d")


class BacklogChange(NamedTuple):
    """What happened within a window. `noise`: the standard deviation of `change` that chance alone explains."""

    span_s: float
    change: float
    noise: float
    steps: float
    finished: float | None  # None if not all were counted
    worker_s: float | None  # time of all workers together; None if their number was unknown
    idle_s: float

    @property
    def per_s(self) -> float:
        """The change per second."""
        return self.change / self.span_s

    @property
    def finished_per_s(self) -> float | None:
        """The jobs that finished per second."""
        return None if self.finished is None else self.finished / self.span_s

    @property
    def is_precise(self) -> bool:
        """Whether a longer window would add nothing."""
        return self.noise <= PRECISE * abs(self.change)

    def agrees_with(self, newer: BacklogChange) -> bool:
        """Whether both can be parts of one trend."""
        scatter = math.hypot(self.noise / self.span_s, newer.noise / newer.span_s)
        return abs(self.per_s - newer.per_s) <= _AGREES_SIGMAS * scatter + _AGREES_SHARE * abs(newer.per_s)


class BacklogTrend:
    """Watches the waiting jobs of one queue. Not thread-safe. It takes about 8 kB, whatever happens."""

    def __init__(self) -> None:
        self._last: BacklogSample | None = None
        self._newest: _Mark | None = None  # the end of the last step
        self._begins: tuple[list[bytes], ...] = tuple([] for _ in WINDOWS_S)  # packed marks, oldest first
        # Sums up to the last sample, as in a mark.
        self._finished = 0
        self._uncounted_s = self._worker_s = self._unknown_workers_s = self._idle_s = 0.0

    def add(self, sample: BacklogSample) -> bool:
        """Add a sample; whether it ended a step, so that the trend can be another."""
        last = self._last
        self._last = sample
        if last is None or not 0 < sample.at - last.at <= GAP_S:
            self._begin(sample)
            return True
        passed_s, before = sample.at - last.at, self._newest
        if sample.finished is None:
            self._uncounted_s += passed_s
        else:
            self._finished += sample.finished
        if last.workers is None:
            self._unknown_workers_s += passed_s
        else:
            self._worker_s += passed_s * last.workers
        if not (last.depth and sample.depth):
            self._idle_s += passed_s
        if before is None or sample.at - before.at < STEP_S:
            return False
        self._end_step(sample, before)
        return True

    def measure(self) -> BacklogChange | None:
        """The change over the best window; None while no window is complete."""
        newest = self._newest
        best: BacklogChange | None = None
        since: _Mark | None = None
        for begin in self._complete_begins():
            assert newest is not None
            longer = _change_between(begin, newest)
            if longer.steps < MIN_STEPS:
                continue
            if best is not None and since is not None:
                noisier = longer.noise / longer.span_s > best.noise / best.span_s
                if noisier or not _change_between(begin, since).agrees_with(best):
                    break
            best, since = longer, begin
            if best.is_precise:
                break
        return best

    def _begin(self, sample: BacklogSample) -> None:
        self._newest = self._mark(sample, 0, 0.0)
        packed = _PACKED.pack(*self._newest)
        for begins in self._begins:
            begins[:] = [packed]

    def _end_step(self, sample: BacklogSample, before: _Mark) -> None:
        squares = before.squares + (sample.depth - before.depth) ** 2
        mark = self._newest = self._mark(sample, before.steps + 1, squares)
        packed = _PACKED.pack(*mark)
        for window_s, begins in zip(WINDOWS_S, self._begins, strict=True):
            if mark.at - _time_of(begins[-1]) >= window_s * _SPACING:
                begins.append(packed)
                while mark.at - _time_of(begins[1]) >= window_s:
                    del begins[0]

    def _mark(self, sample: BacklogSample, steps: float, squares: float) -> _Mark:
        sums = self._finished, self._uncounted_s, self._worker_s, self._unknown_workers_s, self._idle_s
        return _Mark(sample.at, sample.depth, steps, squares, *sums)

    def _complete_begins(self) -> Iterator[_Mark]:
        """Where the windows begin that are complete, shortest first."""
        for window_s, begins in zip(WINDOWS_S, self._begins, strict=True):
            if self._newest is None or self._newest.at - _time_of(begins[0]) < window_s:
                return
            yield _Mark._make(_PACKED.unpack(begins[0]))


def _time_of(packed: bytes) -> float:
    at: float = _PACKED_AT.unpack_from(packed)[0]
    return at


def _change_between(begin: _Mark, end: _Mark) -> BacklogChange:
    span_s, change, steps = end.at - begin.at, end.depth - begin.depth, end.steps - begin.steps
    squares = end.squares - begin.squares
    # Of independent steps around their mean; one job more or less is always chance.
    scatter = (squares - change * change / steps) * steps / (steps - 1) if steps > 1 else squares
    most_s = span_s * _UNCOUNTED_SHARE
    return BacklogChange(
        span_s=span_s,
        change=change,
        noise=math.sqrt(max(1.0, scatter)),
        steps=steps,
        finished=None if end.uncounted_s - begin.uncounted_s > most_s else end.finished - begin.finished,
        worker_s=None if end.unknown_workers_s - begin.unknown_workers_s > most_s else end.worker_s - begin.worker_s,
        idle_s=end.idle_s - begin.idle_s,
    )
