"""When a Redis will be full, for the rules. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ...forecasts.robust_slope import Point, find_slower_end, robust_slope

WINDOW_S = 1800.0


def full_in_s(points: Sequence[Point], limit: float) -> tuple[float | None, bool]:
    """(seconds until `limit` is reached, whether it will never be reached at this rate).

    (0.0, False) when it is reached; (None, False) with too few points; (None, True) when the slope is not positive.
    Only points within WINDOW_S before the newest count. Their slope is that of their last third if it is clearly
    slower: what rose while clients started, and no longer does, does not fire.
    """
    if not points:
        return None, False
    newest_at, newest = points[-1]
    if newest >= limit:
        return 0.0, False
    recent = [point for point in points if newest_at - point[0] <= WINDOW_S]
    slope = robust_slope(recent)
    if slope is None:
        return None, False
    if (slower := find_slower_end(recent, slope)) is not None:
        slope, _ = slower
    if slope <= 0:
        return None, True
    return (limit - newest) / slope, False
