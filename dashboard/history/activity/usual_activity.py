"""What is usual at an hour of the week, from slots of the past. Pure: no Redis, no clock.

The same time of the last four weeks is compared; with fewer than two of them stored, that of the last days of the same
kind (Monday to Friday, or weekend). All times are in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from ..columns import CLASS, QUEUE, SeriesKind
from ..slots import Slot
from ..tiers import CLASS_HOURS, DAY_S, HOUR_S, QUARTERS, slot_of
from .clock_changes import were_clocks_set

WEEK_S = 7 * DAY_S
WEEKS_S = tuple(week * WEEK_S for week in range(1, 5))
# Weeks back are in WEEKS_S already.
DAYS_S = tuple(day * DAY_S for day in range(1, 14) if day != 7)
LEAST_WEEKS, LEAST_DAYS = 2, 3
STEP_S = QUARTERS.step_s
# Jobs are compared over the shortest of these times in which enough of them are usual. Of classes, only slots of two
# hours are stored.
WINDOWS_S: Mapping[SeriesKind, tuple[int, ...]] = {QUEUE: (900, HOUR_S, 2 * HOUR_S), CLASS: (CLASS_HOURS.step_s,)}
WORKERS_S = HOUR_S
# A slot of which less was sampled and counted than this share says nothing.
LEAST_SAMPLED = 0.8
_WEEKEND = 5
_FIRST_MONDAY_S = 4 * DAY_S  # 1970 began on a Thursday


class UsualJobs(NamedTuple):
    """The usual number of jobs in a time: the median of those that were compared.

    `lowest` of them, and of the times a quarter of an hour earlier and later, so that a rhythm may shift a little; also
    of those an hour earlier and later, if people set their clocks since.
    `is_weekly`: of the same hour of the week; otherwise of the same hour of the last days.
    """

    jobs: float
    lowest: float
    is_weekly: bool


class UsualWorkers(NamedTuple):
    """The usual number of workers in the last hour: the median and the lowest of those that were compared."""

    workers: float
    lowest: int
    is_weekly: bool


class Usual(NamedTuple):
    """What is usual in the times of WINDOWS_S before a moment; None where too little of the past is known."""

    jobs: tuple[UsualJobs | None, ...] = ()
    workers: UsualWorkers | None = None


class PastSlot(NamedTuple):
    """A slot of the past; None where unknown."""

    jobs: int | None = None
    workers: int | None = None


_UNKNOWN = PastSlot()
PastSlots = Mapping[int, PastSlot]  # by their start


def jobs_in(kind: SeriesKind, slot: Slot, least_ms: float) -> int | None:
    """The jobs that arrived in a slot, or that finished in it where arrivals are unknown; None where both are, or if
    less than `least_ms` of the slot was counted."""
    if slot.cells is None or counted_ms(kind, slot) < least_ms:
        return None
    arrived = slot.cells[kind.index_of("enqueued")] if kind is QUEUE else None
    found = slot.cells[kind.index_of("finished")] if arrived is None else arrived
    return found if isinstance(found, int) else None


def counted_ms(kind: SeriesKind, slot: Slot) -> int:
    """The milliseconds of a slot in which jobs were counted."""
    uncounted_ms = None if slot.cells is None else slot.cells[kind.index_of("uncounted_ms")]
    return slot.sampled_ms - (uncounted_ms if isinstance(uncounted_ms, int) else 0)


def past_slots(kind: SeriesKind, slots: Iterable[Slot]) -> dict[int, PastSlot]:
    """What counts of slots of the past, by their start."""
    place = kind.index_of("workers") if kind is QUEUE else None
    least_ms = LEAST_SAMPLED * 1000 * step_of(kind)
    found = {}
    for slot in slots:
        workers = slot.cells[place] if place is not None and slot.cells is not None else None
        found[slot.start_s] = PastSlot(jobs_in(kind, slot, least_ms), workers if isinstance(workers, int) else None)
    return found


def step_of(kind: SeriesKind) -> int:
    """The length of the slots in which the past of a kind of series is compared, in seconds."""
    return CLASS_HOURS.step_s if kind is CLASS else STEP_S


def is_same_kind_of_day(one_s: float, other_s: float) -> bool:
    """Whether two moments are both from Monday to Friday, or both on a weekend."""
    return (_weekday(one_s) < _WEEKEND) is (_weekday(other_s) < _WEEKEND)


def _weekday(at: float) -> int:
    return int((at - _FIRST_MONDAY_S) // DAY_S) % 7


def compared_ranges(kind: SeriesKind, start_s: int, end_s: int, periods_s: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The times of the past, from and until before, that UsualFinder needs for the moments from `start_s` to `end_s`:
    one for each of the periods back."""
    step_s, longest_s = step_of(kind), WINDOWS_S[kind][-1]
    for period_s in periods_s:
        first_s = slot_of(start_s - period_s - longest_s - HOUR_S, step_s)
        yield first_s, slot_of(end_s - period_s + HOUR_S, step_s) + step_s


class UsualFinder:
    """Finds what is usual, from slots of the past of one series."""

    def __init__(self, kind: SeriesKind, slots: PastSlots) -> None:
        self._kind = kind
        self._step_s = step_of(kind)
        self._slots = slots
        self._totals: dict[int, int] = {}  # at the ends of slots: the jobs since `_begins`
        self._begins: dict[int, int] = {}  # at the same: since when all slots are known
        for start_s in sorted(slots):
            jobs, end_s = slots[start_s].jobs, start_s + self._step_s
            if jobs is not None:
                self._totals[end_s] = self._totals.setdefault(start_s, 0) + jobs
                self._begins[end_s] = self._begins.setdefault(start_s, start_s)

    def find(self, at_s: int) -> Usual:
        """What is usual before `at_s`, a multiple of STEP_S."""
        days = [day_s for day_s in (*DAYS_S, WEEK_S) if is_same_kind_of_day(at_s, at_s - day_s)]
        jobs = tuple(
            self._usual_jobs(at_s, window_s, WEEKS_S, LEAST_WEEKS) or self._usual_jobs(at_s, window_s, days, LEAST_DAYS)
            for window_s in WINDOWS_S[self._kind]
        )
        if self._kind is not QUEUE:
            return Usual(jobs)
        workers = self._usual_workers(at_s, WEEKS_S, LEAST_WEEKS) or self._usual_workers(at_s, days, LEAST_DAYS)
        return Usual(jobs, workers)

    def _usual_jobs(self, at_s: int, window_s: int, periods_s: Sequence[int], least: int) -> UsualJobs | None:
        found: list[float] = []
        lowest: list[float] = []
        for period_s in periods_s:
            jobs = self._count_jobs(at_s - period_s, window_s)
            if jobs is None:
                continue
            shifts_s = self._shifts(at_s, period_s)
            others = [self._count_jobs(at_s - period_s + shift_s, window_s) for shift_s in shifts_s]
            known = [count for count in others if count is not None]
            if len(known) == len(others):
                found.append(jobs)
                lowest += (jobs, *known)
        return UsualJobs(median(found), min(lowest), periods_s is WEEKS_S) if len(found) >= least else None

    def _shifts(self, at_s: int, period_s: int) -> tuple[int, ...]:
        """How much later the other times end that must be as busy; of classes, those of the slots that it lies in.

        Also an hour, if people set their clocks since: the morning begins an hour earlier or later in UTC.
        """
        hours_s = (-HOUR_S, HOUR_S) if were_clocks_set(at_s, at_s - period_s) else ()
        if self._kind is not CLASS:
            return -STEP_S, STEP_S, *hours_s
        inside_s = at_s % self._step_s
        return (-inside_s, self._step_s - inside_s, *hours_s) if inside_s else hours_s

    def _count_jobs(self, end_s: int, window_s: int) -> float | None:
        """The jobs in a time that ends at `end_s`; of slots that lie in it partly, their share."""
        first_s, last_s = slot_of(end_s - window_s, self._step_s), slot_of(end_s + self._step_s - 1, self._step_s)
        begin_s = self._begins.get(last_s)
        if begin_s is None or begin_s > first_s:
            return None
        return self._total_at(end_s) - self._total_at(end_s - window_s)

    def _total_at(self, at_s: int) -> float:
        start_s = slot_of(at_s, self._step_s)
        total = self._totals[start_s]
        if start_s == at_s:
            return total
        return total + (self._totals[start_s + self._step_s] - total) * (at_s - start_s) / self._step_s

    def _usual_workers(self, at_s: int, periods_s: Sequence[int], least: int) -> UsualWorkers | None:
        found = []
        for period_s in periods_s:
            end_s = at_s - period_s
            inside = [self._slots.get(slot_s, _UNKNOWN).workers for slot_s in range(end_s - WORKERS_S, end_s, STEP_S)]
            known = [workers for workers in inside if workers is not None]
            if len(known) == len(inside):
                found.append(min(known))
        return UsualWorkers(median(found), min(found), periods_s is WEEKS_S) if len(found) >= least else None
