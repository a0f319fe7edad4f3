"""The good jobs of one objective over time: by minute of the last hours, by quarter of an hour before. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..history.tiers import HOUR_S, MINUTES, QUARTERS, slot_of
from .good_jobs import JobCounts

MINUTE_S, QUARTER_S = MINUTES.step_s, QUARTERS.step_s
# Up to this length, a window is made of whole minutes; longer ones of quarters of an hour.
FINE_WINDOW_S = HOUR_S
MINUTES_KEPT_S = 2 * HOUR_S

_Slots = dict[int, list[float]]


class SloCounts:
    """Counts by slot. Not thread-safe."""

    def __init__(self) -> None:
        self._minutes: _Slots = {}  # start -> [jobs, good ones]
        self._quarters: _Slots = {}

    def add_minutes(self, start_s: int, span_s: int, counts: JobCounts) -> None:
        """Add jobs that finished within `span_s` seconds from `start_s` on, spread evenly over its minutes."""
        _spread(self._minutes, start_s, span_s, MINUTE_S, counts)

    def add_quarters(self, start_s: int, span_s: int, counts: JobCounts) -> None:
        """The same for quarters of an hour."""
        _spread(self._quarters, start_s, span_s, QUARTER_S, counts)

    def forget_before(self, now_s: float, window_s: float) -> None:
        """Forget what is older than any window."""
        for slots, oldest_s in (
            (self._minutes, now_s - MINUTES_KEPT_S),
            (self._quarters, now_s - window_s - QUARTER_S),
        ):
            for start_s in [start_s for start_s in slots if start_s < oldest_s]:
                del slots[start_s]

    def within(self, window_s: float, now_s: float) -> JobCounts:
        """The jobs of the last `window_s` seconds before `now_s`, the end of a minute; of a window of more than an hour
        from the quarter on in which it begins."""
        if window_s <= FINE_WINDOW_S:
            return _sum_between(self._minutes, now_s - window_s, now_s)
        return _sum_between(self._quarters, slot_of(now_s - window_s, QUARTER_S), now_s)

    def first_s(self, window_s: float, now_s: float) -> int | None:
        """The start of the first quarter within a window with jobs; None without any."""
        first_s = slot_of(now_s - window_s, QUARTER_S)
        return min((start_s for start_s in self._quarters if first_s <= start_s < now_s), default=None)

    def in_steps(self, window_s: float, now_s: float, step_s: int) -> Iterator[tuple[int, JobCounts]]:
        """The slots of `step_s` (a multiple of a quarter) within a window with jobs in them, by time."""
        steps: _Slots = {}
        for start_s, (total, good) in self._quarters.items():
            if slot_of(now_s - window_s, QUARTER_S) <= start_s < now_s:
                slot = steps.setdefault(slot_of(start_s, step_s), [0.0, 0.0])
                slot[0] += total
                slot[1] += good
        for start_s in sorted(steps):
            yield start_s, JobCounts(total=steps[start_s][0], good=steps[start_s][1])


def _spread(slots: _Slots, start_s: int, span_s: int, step_s: int, counts: JobCounts) -> None:
    starts = range(slot_of(start_s, step_s), max(start_s + span_s, start_s + 1), step_s)
    for slot_s in starts:
        slot = slots.setdefault(slot_s, [0.0, 0.0])
        slot[0] += counts.total / len(starts)
        slot[1] += counts.good / len(starts)


def _sum_between(slots: Mapping[int, list[float]], start_s: float, end_s: float) -> JobCounts:
    inside = [slot for at, slot in slots.items() if start_s <= at < end_s]
    return JobCounts(total=sum(slot[0] for slot in inside), good=sum(slot[1] for slot in inside))
