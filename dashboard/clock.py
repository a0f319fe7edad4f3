"""Wall-clock time in seconds and as aware UTC instants; the only place that reads the host's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import overload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_s() -> float:
    """Seconds since 1970 by this host's clock."""
    return time.time()


def monotonic_s() -> float:
    """Seconds on a clock that never steps; only differences are meaningful."""
    return time.monotonic()


def instant(seconds: float | None) -> datetime | None:
    """The UTC instant of `seconds` since 1970; None for None and for values outside the calendar (NaN, year 10 000)."""
    if seconds is None:
        return None
    try:
        return EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None


@overload
def iso(moment: datetime) -> str: ...


@overload
def iso(moment: datetime | None) -> str | None: ...


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds and `Z`, the format of times in the JSON API; None for None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
