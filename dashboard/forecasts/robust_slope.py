"""A slope that is robust against outliers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

MIN_POINTS = 20
# Every pair of points counts, so more points than this would cost more than they add.
MAX_POINTS = 60

Point = tuple[float, float]  # seconds, value


def robust_slope(points: Sequence[Point]) -> float | None:
    """The median slope over all pairs of points (Theil and Sen), per second; None with fewer than MIN_POINTS.

    Up to 29% of the points can be arbitrary without moving it far. `points` by time, oldest first.
    """
    if len(points) < MIN_POINTS:
        return None
    thinned = thin_points(points, MAX_POINTS)
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(thinned)
        for later in thinned[index + 1 :]
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
