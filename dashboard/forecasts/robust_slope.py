"""A slope that is robust against outliers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

MIN_POINTS = 20
# Every pair of points counts, so more points than this would cost more than they add.
MAX_POINTS = 60
# The last third of the time confirms a slope if its own is at least this share of it, or if what it lacks can be
# chance: at most so many times the distance of its points from a line. Fewer points say nothing.
CONFIRMS_SHARE = 0.8
CONFIRMS_SCATTERS = 4.0
MIN_END_POINTS = 5

Point = tuple[float, float]  # seconds, value


def robust_slope(points: Sequence[Point]) -> float | None:
    """The median slope over all pairs of points (Theil and Sen), per second; None with fewer than MIN_POINTS.

    Up to 29% of the points can be arbitrary without moving it far. `points` by time, oldest first.
    """
    if len(points) < MIN_POINTS:
        return None
    return _median_slope(thin_points(points, MAX_POINTS))


def find_slower_end(points: Sequence[Point], slope: float) -> tuple[float, Sequence[Point]] | None:
    """(the slope, the points) of the last third of the time if these rise clearly slower than all points: at `slope`.

    A rise that has ended by then says nothing about what comes: the memory that a Redis takes while its clients start.
    None if the last third confirms the slope, or has too few points to say. `points` by time, oldest first.
    """
    if not points:
        return None
    newest_at = points[-1][0]
    end = [point for point in points if newest_at - point[0] <= (newest_at - points[0][0]) / 3]
    thinned = thin_points(end, MAX_POINTS)
    end_slope = _median_slope(thinned) if len(end) >= MIN_END_POINTS else None
    if end_slope is None or end_slope >= CONFIRMS_SHARE * slope:
        return None
    lacking = (slope - end_slope) * (newest_at - end[0][0])
    return (end_slope, end) if lacking > CONFIRMS_SCATTERS * scatter_around(thinned, end_slope) else None


def _median_slope(points: Sequence[Point]) -> float | None:
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(points)
        for later in points[index + 1 :]
        if later[0] > earlier[0]
    ]
    return median(slopes) if slopes else None


def thin_points(points: Sequence[Point], most: int) -> Sequence[Point]:
    """At most `most` of the points, evenly spaced, including the newest."""
    if len(points) <= most:
        return points
    last = len(points) - 1
    return [points[round(index * last / (most - 1))] for index in range(most)]


def scatter_around(points: Sequence[Point], slope: float) -> float:
    """How far the points are typically from a line of that slope: the median distance from their middle one."""
    middle = median(value - slope * at for at, value in points)
    return median(abs(value - slope * at - middle) for at, value in points)
