"""How late a schedule is. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from ..model import Schedule

# The patterns of all libraries for a fixed interval.
_EVERY = re.compile(r"every ([0-9]{1,12}(?:\.[0-9]{1,6})?) s")


def due_at(schedule: Schedule) -> datetime | None:
    """When the run that comes next, or was missed, was or is due; None if that is unknown, or if there is none.

    A schedule without a known next run is due one interval after its last run, if it has a fixed interval.
    """
    if schedule.paused or schedule.ended:
        return None
    if schedule.missed_at is not None:
        return schedule.missed_at
    if schedule.next_run_at is not None or schedule.last_run_at is None:
        return schedule.next_run_at
    every = _EVERY.fullmatch(schedule.pattern or "")
    try:
        return schedule.last_run_at + timedelta(seconds=float(every[1])) if every else None
    except OverflowError:
        return None


def late_s(schedule: Schedule, now: float) -> float | None:
    """For how many seconds the run that is due has not happened: 0 while none is due, for a paused schedule, and for
    one that has ended; None if it is unknown when a run is due. `now`: seconds since 1970 by the clock of its source.
    """
    if schedule.paused or schedule.ended:
        return 0.0
    due = due_at(schedule)
    return None if due is None else max(0.0, now - due.timestamp())
