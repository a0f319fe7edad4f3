"""Queuedeck on a host whose clock can be set: `python -m tests.alerts.step_clock FILE ARGUMENTS…`.

ARGUMENTS are those of `queuedeck`. FILE holds by how many seconds the wall clock is off, from the moment that it is
written. The monotonic clock is not changed, as on a real host.
"""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any

REAL_TIME, REAL = time.time, datetime.datetime
FILE = Path(sys.argv[1])


def off_s() -> float:
    """By how much the clock is off."""
    return float(FILE.read_text() or 0)


class Stepped(REAL):
    """`datetime` on that clock."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return REAL.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return REAL.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


time.time = lambda: REAL_TIME() + off_s()
time.time_ns = lambda: int(time.time() * 1e9)
datetime.datetime = Stepped  # type: ignore[misc]

if __name__ == "__main__":
    from dashboard.cli import main

    sys.exit(main(sys.argv[2:]))
