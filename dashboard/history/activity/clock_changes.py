"""Whether people set their clocks between two moments: what happens at their hours then happens at another hour of UTC.

Pure: no Redis, no clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..tiers import HOUR_S

# Where the people are that feed a queue is unknown. Most clocks that are set are set with one of these.
_ZONES = ("Europe/Berlin", "America/New_York")


def were_clocks_set(one_s: float, other_s: float) -> bool:
    """Whether the clocks of Europe or North America show another offset from UTC at one moment than at the other."""
    return _offsets(int(one_s // HOUR_S)) != _offsets(int(other_s // HOUR_S))


@lru_cache(maxsize=4096)
def _offsets(hour: int) -> tuple[timedelta | None, ...]:
    moment = datetime.fromtimestamp(hour * HOUR_S, UTC)
    return tuple(_offset(zone, moment) for zone in _ZONES)


def _offset(zone: str, moment: datetime) -> timedelta | None:
    """None on a machine without time zones."""
    try:
        return moment.astimezone(ZoneInfo(zone)).utcoffset()
    except (ZoneInfoNotFoundError, OSError):
        return None
