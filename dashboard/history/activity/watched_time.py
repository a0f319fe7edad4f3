"""For how long something was watched without a break, and since when nothing happened. Pure: no Redis, no clock."""

from __future__ import annotations

# A time without figures that is no longer than this breaks nothing: another process became leader, a Redis was slow.
BRIDGED_S = 60.0


class WatchedTime:
    """Accumulates time from readings, never from two readings of a clock: a clock that is set neither makes nor loses
    any. Not thread-safe."""

    __slots__ = ("_end_s", "_last_s", "_since_s", "_watched_s", "begin_s", "breaks")

    def __init__(self) -> None:
        self.begin_s: float | None = None  # when the first known reading began, in seconds since 1970
        self.breaks = 0  # how often it began again
        self._end_s = 0.0
        self._watched_s = 0.0  # in all; the two below are moments of it
        self._since_s = 0.0
        self._last_s: float | None = None

    def add(self, begin_s: float, end_s: float, jobs: int | None) -> None:
        """Add a reading from `begin_s` until `end_s` with so many jobs, None if that is unknown."""
        if jobs is None:
            return
        missing_s = 0.0 if self.begin_s is None else begin_s - self._end_s
        if self.begin_s is None:
            self.begin_s = begin_s
        if missing_s > BRIDGED_S:
            self.breaks += 1
            self._since_s = self._watched_s
        else:
            self._watched_s += max(0.0, missing_s)
        self._watched_s += end_s - begin_s
        self._end_s = end_s
        if jobs:
            self._last_s = self._watched_s

    def is_known(self, now_s: float) -> bool:
        """Whether it was known until now."""
        return self.begin_s is not None and now_s - self._end_s <= BRIDGED_S

    @property
    def watched_s(self) -> float:
        """Seconds since which it is watched without a break."""
        return self._watched_s - self._since_s

    @property
    def moment_s(self) -> float:
        """The watched time in all, to compare with later."""
        return self._watched_s

    def quiet_since(self, last_s: float | None) -> tuple[float, bool]:
        """(seconds since the `moment_s` of the last job, whether that is only a lower bound)."""
        if last_s is None or last_s < self._since_s:
            return self.watched_s, True
        return self._watched_s - last_s, False

    @property
    def quiet(self) -> tuple[float, bool]:
        """(seconds since the last reading with jobs, whether that is only a lower bound)."""
        return self.quiet_since(self._last_s)
