"""The jobs that one leader saw in the last two hours, by series, in whole minutes. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..columns import CLASS
from ..series_keys import SeriesKey
from .usual_activity import WINDOWS_S
from .watched_time import WatchedTime

LONGEST_S = max(windows_s[-1] for windows_s in WINDOWS_S.values())
_WINDOWS_S = tuple(dict.fromkeys(window_s for windows_s in WINDOWS_S.values() for window_s in windows_s))

Place = tuple[str, str, str]  # source, library, name of the queue


class _QueueTimes:
    """For how long the jobs of a queue, and those that arrived in it, were known."""

    __slots__ = ("arrived", "jobs")

    def __init__(self) -> None:
        self.jobs, self.arrived = WatchedTime(), WatchedTime()


class RecentJobs:
    """Jobs of queues and classes by minute, and for how long they were watched. Not thread-safe."""

    def __init__(self) -> None:
        self._minute: int | None = None
        self._open: dict[SeriesKey, int] = {}
        self._begin: dict[int, int] = {}  # of each of the times: its first minute
        # By minute: the series with jobs, and their jobs; two tuples take less room than a dict.
        self._closed: dict[int, tuple[tuple[SeriesKey, ...], tuple[int, ...]]] = {}
        self._sums: dict[int, dict[SeriesKey, int]] = {window_s: {} for window_s in _WINDOWS_S}
        self._queues: dict[SeriesKey, _QueueTimes] = {}
        self._classes: dict[Place, WatchedTime] = {}  # of all classes of a queue
        self._last: dict[SeriesKey, float] = {}  # of a class: the moment of its last job in the watched time

    def add_queue(
        self, key: SeriesKey, begin_s: float, end_s: float, arrived: int | None, finished: int | None
    ) -> None:
        """Add a reading of a queue; None where unknown. Jobs are those that arrived, if that is known."""
        times = self._queues.get(key)
        if times is None:
            times = self._queues[key] = _QueueTimes()
        jobs = finished if arrived is None else arrived
        times.arrived.add(begin_s, end_s, arrived)
        times.jobs.add(begin_s, end_s, jobs)
        if jobs:
            self._open[key] = self._open.get(key, 0) + jobs

    def watch_classes(self, place: Place, begin_s: float, end_s: float) -> None:
        """Add a time in which the classes of a queue were known. To be called before `add_class`."""
        self._classes.setdefault(place, WatchedTime()).add(begin_s, end_s, 0)

    def add_class(self, key: SeriesKey, jobs: int) -> None:
        """Add the jobs of a class that finished in the time of the reading."""
        if jobs:
            self._open[key] = self._open.get(key, 0) + jobs
            self._last[key] = self._classes[key[1:4]].moment_s

    def close_minutes(self, at: float) -> bool:
        """Count the minutes that ended before `at`; whether there are any."""
        minute = int(at // 60)
        if self._minute is None:
            self._minute, self._begin = minute, dict.fromkeys(_WINDOWS_S, minute)
        if minute == self._minute:
            return False
        if minute < self._minute:
            self._shift_minutes(minute - 1 - self._minute)
        if self._open:
            self._closed[self._minute] = tuple(self._open), tuple(self._open.values())
            for sums in self._sums.values():
                for key, jobs in self._open.items():
                    sums[key] = sums.get(key, 0) + jobs
        self._open, self._minute = {}, minute
        for window_s, sums in self._sums.items():
            self._drop_old(window_s, sums)
        for old in [old for old in self._closed if old < min(self._begin.values())]:
            del self._closed[old]
        return True

    def _shift_minutes(self, by: int) -> None:
        """Number the minutes from a clock that was set back: those of the future would never become old."""
        assert self._minute is not None
        self._minute += by
        self._closed = {minute + by: jobs for minute, jobs in self._closed.items()}
        self._begin = {window_s: minute + by for window_s, minute in self._begin.items()}

    def _drop_old(self, window_s: int, sums: dict[SeriesKey, int]) -> None:
        """Take the minutes that are no longer in a time out of its sums."""
        assert self._minute is not None
        begin, self._begin[window_s] = self._begin[window_s], self._minute - window_s // 60
        for minute, counts in self._closed.items():
            if begin <= minute < self._begin[window_s]:
                for key, jobs in zip(*counts, strict=True):
                    sums[key] -= jobs
                    if not sums[key]:
                        del sums[key]

    def count_jobs(self, key: SeriesKey, window_s: int) -> int:
        """The jobs of the last `window_s` in whole minutes, as far as they were watched."""
        return self._sums[window_s].get(key, 0)

    def end_s(self) -> float:
        """The end of the last whole minute, in seconds since 1970."""
        return 60.0 * (self._minute or 0)

    def times_of(self, key: SeriesKey) -> WatchedTime | None:
        """For how long the jobs of a series were known; None if they never were."""
        if key.kind is CLASS:
            return self._classes.get(key[1:4])
        times = self._queues.get(key)
        return None if times is None else times.jobs

    def arrivals_of(self, key: SeriesKey) -> WatchedTime | None:
        """For how long the arrivals of a queue were known; None for one that was never sampled, and for classes."""
        times = self._queues.get(key)
        return None if times is None else times.arrived

    def quiet_of(self, key: SeriesKey) -> tuple[float, bool]:
        """(seconds since the last job, whether that is only a lower bound), of a series with `times_of`."""
        times = self.times_of(key)
        assert times is not None
        return times.quiet_since(self._last.get(key)) if key.kind is CLASS else times.quiet

    def queues(self) -> Iterable[SeriesKey]:
        """The queues that were sampled."""
        return self._queues

    def forget(self, is_sampled: Callable[[SeriesKey], bool]) -> None:
        """Forget the queues and classes that are gone."""
        for key in [key for key in self._queues if not is_sampled(key)]:
            del self._queues[key]
        for key in [key for key in self._last if not is_sampled(key)]:
            del self._last[key]
        places = {key[1:4] for key in self._queues}
        for place in [place for place in self._classes if place not in places]:
            del self._classes[place]
