"""The range of time that a chart page shows, as its URL says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from ....errors import Unsupported
from ....history.tiers import DAY_S, HOUR_S, QUARTERS, WRITTEN_WITHIN_S, written_within_s

# Name in the URL -> seconds, in the order of the picker.
RANGES: Mapping[str, int] = {
    "15m": 900,
    "1h": HOUR_S,
    "6h": 6 * HOUR_S,
    "24h": DAY_S,
    "2d": 2 * DAY_S,
    "7d": 7 * DAY_S,
    "30d": 30 * DAY_S,
}
DEFAULT_RANGE = "6h"
TITLES: Mapping[str, str] = {"15m": "15 min", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours"} | {
    name: f"{seconds // DAY_S} days" for name, seconds in RANGES.items() if seconds > DAY_S
}
# Name in the URL -> how much earlier the faint line is.
COMPARISONS: Mapping[str, int] = {"day": DAY_S, "week": 7 * DAY_S}
LEAST_S = 60.0


def range_title(name: str) -> str:
    """The words of a range in the picker."""
    return TITLES[name]


class ChartRange(NamedTuple):
    """Seconds since 1970. `name`: of RANGES, or None for a range between two moments; `back` is the one to return to.

    `compare`: of COMPARISONS.
    """

    start_s: float
    end_s: float
    name: str | None
    compare: str | None = None
    back: str = DEFAULT_RANGE

    @property
    def earlier_s(self) -> int:
        """How much earlier the time to compare with is; 0 for none."""
        return COMPARISONS[self.compare] if self.compare else 0


def least_range_s(interval_s: float) -> float:
    """How much time a range up to now covers at least, with samples that are `interval_s` seconds apart: something of
    it is stored."""
    return LEAST_S + written_within_s(interval_s) - WRITTEN_WITHIN_S


def parse_range(
    name: str | None,
    start_s: float | None,
    end_s: float | None,
    compare: str | None,
    now_s: float,
    until_s: float | None = None,
    least_s: float = LEAST_S,
) -> ChartRange:
    """The range of a URL. Without a name or moments, the last hours; an end in the future means now, and a range up to
    now covers `least_s` at least. With moments, the name is that of the range before, of which they are a part. A range
    without an end ends at `until_s`; None for now.

    Raises Unsupported for an unknown name, and for a range that ends before it begins, is shorter than LEAST_S, or
    begins before anything that is stored.
    """
    if compare and compare not in COMPARISONS:
        raise Unsupported(f"compare={compare[:20]!r}: expected {' or '.join(COMPARISONS)}.")
    name = name or DEFAULT_RANGE
    if name not in RANGES:
        raise Unsupported(f"range={name[:20]!r}: expected one of {', '.join(RANGES)}.")
    if start_s is None and end_s is None:
        last_s = now_s if until_s is None else until_s
        return ChartRange(last_s - RANGES[name], last_s, name, compare or None)
    end_s = min(now_s, next((at for at in (end_s, until_s) if at is not None), now_s))
    start_s = end_s - RANGES[DEFAULT_RANGE] if start_s is None else start_s
    if end_s == now_s and start_s <= now_s:
        start_s = min(start_s, now_s - least_s)  # a zoom into the newest slots, a script that asks for newer points
    if end_s - start_s < LEAST_S:
        raise Unsupported("The range must end at least a minute after it begins.", hint="Check from and to.")
    if start_s < now_s - QUARTERS.keep_s - DAY_S:
        raise Unsupported("The history goes back 30 days.", hint="Choose a later beginning.")
    return ChartRange(start_s, end_s, None, compare or None, name)


def range_url(wanted: ChartRange, compare: str, at: str = "") -> str:
    """The query of the same range with another comparison, "" for none; `at`: the moment that the page shows."""
    moments = {} if wanted.name else {"from": int(wanted.start_s), "to": int(wanted.end_s)}
    query = {"range": wanted.name or wanted.back} | moments
    more = {name: value for name, value in (("compare", compare), ("at", at)) if value}
    return f"?{urlencode(query | more)}"
