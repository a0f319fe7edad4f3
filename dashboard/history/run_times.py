"""Run times of now against those of the last days: what the leader compares to find jobs that became slower."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from .columns import CLASS, SeriesKind
from .histogram import Histogram, add_histogram, percentiles
from .history_reader import HistoryRange, HistoryReader
from .series_keys import SeriesKey
from .slots import Slot
from .tiers import DAY_S, HOUR_S, slot_of

RECENT_S = 900
PAST_S = 7 * DAY_S
SHARE = 0.95
# The past is compared hour by hour, or in slots of the coarsest tier, so that one bad night does not count much.
PAST_STEP_S = HOUR_S
CLASS_PAST_STEP_S = 2 * HOUR_S
LEAST_IN_SLOT = 10  # fewer run times in a slot say nothing
LEAST_SLOTS = 3
# A past is read again after so long, at most so many of them per sample: each takes a few milliseconds.
PAST_TTL_S = HOUR_S
READ_AT_ONCE = 4


class RunTimes(NamedTuple):
    """The 95th percentile of the last RECENT_S, of so many `jobs`, in seconds.

    `usual_p95_s`: the median of those of the last seven days; None while too little of it is stored, or not read yet.
    """

    p95_s: float
    jobs: int
    usual_p95_s: float | None


class RecentRunTimes:
    """The run times that one leader saw in the last RECENT_S, by series, in whole minutes. Not thread-safe."""

    def __init__(self) -> None:
        self._minute = 0
        self._open: dict[SeriesKey, Histogram] = {}
        self._closed: deque[tuple[int, dict[SeriesKey, Histogram]]] = deque()
        self._sums: dict[SeriesKey, Histogram] = {}
        self._found: dict[SeriesKey, tuple[float, int]] = {}

    def add(self, key: SeriesKey, at: float, run_times: Histogram) -> None:
        """Add run times of jobs that finished until `at`, in seconds since 1970."""
        self.close_minutes(at)
        add_histogram(self._open.setdefault(key, {}), run_times)

    def close_minutes(self, at: float) -> None:
        """Count the minutes that ended before `at`, and forget those of more than RECENT_S ago."""
        minute = int(at // 60)
        if minute == self._minute:
            return
        if self._open:
            for key, run_times in self._open.items():
                add_histogram(self._sums.setdefault(key, {}), run_times)
            self._closed.append((self._minute, self._open))
            self._open = {}
        # Also after a clock that was set back: minutes of the future never become old.
        while self._closed and not minute - RECENT_S // 60 <= self._closed[0][0] < minute:
            self._forget(self._closed.popleft()[1])
        self._minute = minute
        self._found = {}
        for key, run_times in self._sums.items():
            (p95_s,) = percentiles(run_times, [SHARE])
            if p95_s is not None:
                self._found[key] = p95_s, sum(run_times.values())

    def _forget(self, run_times: Mapping[SeriesKey, Histogram]) -> None:
        for key, histogram in run_times.items():
            left = self._sums[key]
            for bucket, count in histogram.items():
                left[bucket] -= count
                if not left[bucket]:
                    del left[bucket]
            if not left:
                del self._sums[key]

    def p95s(self) -> Mapping[SeriesKey, tuple[float, int]]:
        """Series -> its 95th percentile in seconds and the number of jobs, of the last RECENT_S in whole minutes."""
        return self._found


class UsualRunTimes:
    """The usual 95th percentile of series, read from the stored history. Not thread-safe."""

    def __init__(self, reader: HistoryReader) -> None:
        self._reader = reader
        self._known: dict[SeriesKey, tuple[float, float | None]] = {}  # when it was read, and what it is

    def refresh(self, keys: Iterable[SeriesKey], now_s: float) -> None:
        """Read the past of at most READ_AT_ONCE of the series whose past is not known or older than PAST_TTL_S, and
        forget all others than `keys`. Raises BackendUnavailable, Forbidden. Cost: none, or 2 round trips for each kind.
        """
        wanted = set(keys)
        for key in [key for key in self._known if key not in wanted]:
            del self._known[key]
        due = [key for key in wanted if not 0 <= now_s - self._read_at(key) < PAST_TTL_S]
        due.sort(key=self._read_at)
        by_kind: dict[SeriesKind, list[SeriesKey]] = {}
        for key in due[:READ_AT_ONCE]:
            by_kind.setdefault(key.kind, []).append(key)
        for kind, of_kind in by_kind.items():
            step_s = CLASS_PAST_STEP_S if kind is CLASS else PAST_STEP_S
            past = HistoryRange(slot_of(now_s - PAST_S, step_s), slot_of(now_s - RECENT_S, step_s), step_s)
            for key, slots in self._reader.read_slots(of_kind, past, now_s).items():
                self._known[key] = now_s, usual_p95(key.kind, slots)

    def _read_at(self, key: SeriesKey) -> float:
        return self._known.get(key, (float("-inf"), None))[0]

    def usual_p95_s(self, key: SeriesKey) -> float | None:
        """The usual 95th percentile of a series in seconds; None while it is not known."""
        return self._known.get(key, (0.0, None))[1]


def usual_p95(kind: SeriesKind, slots: Iterable[Slot]) -> float | None:
    """The median of the 95th percentiles of slots, in seconds; None if fewer than LEAST_SLOTS have enough jobs."""
    place = kind.index_of("runtimes")
    found = []
    for slot in slots:
        cell = slot.cells[place] if slot.cells else None
        if isinstance(cell, dict) and sum(cell.values()) >= LEAST_IN_SLOT:
            (p95_s,) = percentiles(cell, [SHARE])
            if p95_s is not None:
                found.append(p95_s)
    return median(found) if len(found) >= LEAST_SLOTS else None


class RunTimeWatch:
    """The run times of now and those that are usual, as a leader knows them. Not thread-safe."""

    def __init__(self, reader: HistoryReader) -> None:
        self.recent = RecentRunTimes()
        self._usual = UsualRunTimes(reader)
        self.compared: Mapping[SeriesKey, RunTimes] = {}

    def refresh(self, now_s: float) -> None:
        """Compare again. Raises BackendUnavailable, Forbidden. Cost: see UsualRunTimes.refresh."""
        self.recent.close_minutes(now_s)
        found = {key: at for key, at in self.recent.p95s().items() if key.name}
        self._usual.refresh(found, now_s)
        self.compared = {
            key: RunTimes(p95_s, jobs, self._usual.usual_p95_s(key)) for key, (p95_s, jobs) in found.items()
        }
