"""Periods of a few samples, and the sums of what finished in them. Pure: no Redis, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..backends.base import FLOW_WINDOW_S
from ..model import Quality, QueueFlow, State

# Samples are merged into periods of this length: a busy queue has about twenty, an idle one has one.
PIECE_S = FLOW_WINDOW_S / 20
# Higher is worse.
RANKS = {Quality.EXACT: 0, Quality.ESTIMATED: 1, Quality.UNKNOWN: 2}


@dataclass(slots=True)
class RatePeriod:
    """What finished in one period, over several samples of the same quality."""

    at: float  # its end
    span_s: float
    ended: int
    dead: int
    quality: Quality
    reason: str | None
    times: dict[int, int]  # number of run times by bucket
    rank: int  # of the quality, see RANKS

    def share_since(self, start: float) -> float:
        """The fraction of the period after `start`, 0..1."""
        if self.span_s <= 0:
            return 1.0 if self.at > start else 0.0
        return max(0.0, min(1.0, (self.at - start) / self.span_s))

    def can_include(self, at: float, flow: QueueFlow, ended: int) -> bool:
        """Whether `flow`, with `ended` jobs by `at`, joins this period: it is short, or nothing finished in either."""
        if flow.quality is not self.quality or flow.reason != self.reason:
            return False
        if not (self.ended or self.dead or flow.dead or ended):
            return True
        return at - (self.at - self.span_s) <= PIECE_S


@dataclass(slots=True)
class RateSums:
    """What finished in several periods."""

    span_s: float = 0.0
    ended: float = 0.0
    dead: float = 0.0
    worst: RatePeriod | None = None  # the last period of the worst quality
    begin: float = math.inf  # of the earliest period

    def add(self, piece: RatePeriod, start: float) -> RateSums:
        """Add the fraction of `piece` after `start`; returns self."""
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

    def include(self, later: RateSums) -> RateSums:
        """Add the sums of later periods; returns self."""
        if later.worst is not None and (self.worst is None or later.worst.rank >= self.worst.rank):
            self.worst = later.worst
        self.span_s += later.span_s
        self.ended += later.ended
        self.dead += later.dead
        return self


def count_ended(flow: QueueFlow) -> int:
    """The number of jobs known to have finished."""
    return flow.completed + flow.dead if flow.ended is None else max(flow.ended, flow.completed + flow.dead)


def known_ended(flow: QueueFlow) -> int | None:
    """The number of jobs that finished; None if the library does not record it."""
    if flow.quality is Quality.UNKNOWN or (flow.hidden and flow.ended is None):
        return None
    return count_ended(flow)


def known_failed(flow: QueueFlow) -> int | None:
    """The number of jobs that failed permanently; None if the library does not record it."""
    return None if flow.quality is Quality.UNKNOWN or State.DEAD in flow.hidden else flow.dead
