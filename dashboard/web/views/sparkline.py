"""Sparklines as paths for inline SVG: y starts at zero, gaps stay gaps, whole pixels keep the paths short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...sampling.recent_history import Point

HEADROOM = 1.2


def line(
    points: Sequence[Point], slots: int, width: int, height: int, top: float | None = None, *, lowest: bool = False
) -> str:
    """The `d` of a path through `points`, right-aligned in `slots` places; "" when there is nothing to draw.

    If there are more points than one for every second pixel, groups of them are merged into their highest, or `lowest`.
    `top` = the value at the upper edge, where higher points are drawn too; by default slightly above the highest point,
    so that a constant does not look like a border.
    """
    if all(point is None for point in points):
        return ""
    points, slots = _thinned(points, max(slots, len(points)), max(2, width // 2), min if lowest else max)
    highest = max(point for point in points if point is not None)
    top = top or highest * HEADROOM or 1
    scale = (height - 2) / top
    step = width / max(1, slots - 1)
    pieces: list[str] = []
    previous: tuple[int, int] | None = None
    for index, point in enumerate(points):
        if point is None:
            previous = None
            continue
        here = (round(width - (len(points) - 1 - index) * step), round(height - 1 - min(max(0, point), top) * scale))
        if previous is None:
            # A single point: the round line cap draws a dot.
            pieces.append(f"M{here[0]} {here[1]}h0")
        else:
            pieces.append(f"l{here[0] - previous[0]} {here[1] - previous[1]}")
        previous = here
    return "".join(pieces)


def _thinned(
    points: Sequence[Point], slots: int, most: int, keep: Callable[[Iterable[float]], float]
) -> tuple[list[Point], int]:
    group = -(-slots // most)
    if group == 1:
        return list(points), slots
    # Groups are aligned to the right, where the newest point is.
    kept: list[Point] = []
    for end in range(len(points), 0, -group):
        known = [point for point in points[max(0, end - group) : end] if point is not None]
        kept.append(keep(known) if known else None)
    return kept[::-1], -(-slots // group)
