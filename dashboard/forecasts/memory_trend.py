"""When the memory of a Redis is full, from its used memory of the last hours. Pure: no Redis, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from ..model import RedisHealth
from .robust_slope import MAX_POINTS, Point, find_slower_end, robust_slope, scatter_around, thin_points

STEP_S = 30.0
LONGEST_S = 6 * 3600.0
# The last half hour counts instead of the last hours if it rises so many times faster: the earlier moment is the one
# to know.
RECENT_S = 1800.0
FASTER = 2.0
# A rise is more than chance if it is so many times the distance of the points from the line and the largest fall in
# between, and this share of the limit.
RISE_SCATTERS = 4.0
RISE_FALLS = 2.0
RISE_SHARE = 0.0005
# What rises over a shorter time says little about hours.
SHORTEST_S = 600.0
# A moment further away is not forecast.
FARTHEST_S = 30 * 86_400.0


class MemoryTrend:
    """Watches the used memory of one Redis. Not thread-safe. At most 720 points; computed every 30 seconds."""

    def __init__(self, points: Iterable[tuple[float, float | None]] = ()) -> None:
        """`points` that are known from before: (seconds since 1970, bytes), oldest first."""
        self._points: deque[Point] = deque()
        self._full_at: float | None = None
        for at, used in points:
            if used is not None:
                self._points.append((at, used))

    def full_in_s(self, at: float, health: RedisHealth) -> float | None:
        """Seconds until maxmemory is reached, after adding `health` as of `at`.

        At the slope of the last hours, or of the last half hour if that is much faster; in both, of their last third if
        it is clearly slower, so that an old rise is not continued. None without a limit, while the used memory does not
        rise by more than chance, also in that last third, and beyond 30 days.
        """
        used, limit = health.used_memory_bytes, health.maxmemory_bytes
        if used is None or not limit:
            return None
        if self._points and at < self._points[-1][0]:
            self._points.clear()  # the clock was set back
        if not self._points or at - self._points[-1][0] >= STEP_S:
            self._points.append((at, float(used)))
            while at - self._points[0][0] > LONGEST_S:
                self._points.popleft()
            # What Redis does not count towards the limit, such as replication buffers.
            counted = used if health.memory_ratio is None else health.memory_ratio * limit
            left_s = _soonest_full(list(self._points), limit - counted, limit)
            self._full_at = None if left_s is None else at + left_s
        if self._full_at is None:
            return None
        return float(max(0, round(self._full_at - at)))


def _soonest_full(points: Sequence[Point], room: float, limit: float) -> float | None:
    """The seconds until `room` is used up; None if it is not, as far as can be said. `points` must not be empty."""
    if room <= 0:
        return 0.0
    newest_at = points[-1][0]
    slope = _rising_slope(points, limit)
    recent = _rising_slope([point for point in points if newest_at - point[0] <= RECENT_S], limit)
    if recent is not None and (slope is None or recent > FASTER * slope):
        slope = recent
    return None if slope is None or room / slope > FARTHEST_S else room / slope


def _rising_slope(points: Sequence[Point], limit: float) -> float | None:
    """The slope per second, of the last third if it is clearly slower; None if it is not a rise, or can be chance."""
    slope = robust_slope(points)
    if slope is None or points[-1][0] - points[0][0] < SHORTEST_S or not _is_rise(points, slope, limit):
        return None
    slower = find_slower_end(points, slope)
    if slower is None:
        return slope
    end_slope, end = slower
    return end_slope if _is_rise(end, end_slope, limit) else None


def _is_rise(points: Sequence[Point], slope: float, limit: float) -> bool:
    """Whether points of that slope rise by more than chance."""
    thinned, rise = thin_points(points, MAX_POINTS), slope * (points[-1][0] - points[0][0])
    least = max(RISE_SCATTERS * scatter_around(thinned, slope), RISE_FALLS * _largest_fall(thinned), RISE_SHARE * limit)
    return slope > 0 and rise >= least


def _largest_fall(points: Sequence[Point]) -> float:
    """How far the values fell below an earlier one."""
    highest, largest = points[0][1], 0.0
    for _, value in points:
        highest = max(highest, value)
        largest = max(largest, highest - value)
    return largest
