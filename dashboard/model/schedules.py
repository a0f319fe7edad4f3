"""Schedules that create jobs at set times."""

from __future__ import annotations

from datetime import datetime

from .base import Value
from .jobs import Payload
from .queues import QueueRef


class Schedule(Value, frozen=True, kw_only=True):
    """A schedule that creates jobs at set times. Unknown is None.

    A `next_run_at` in the past means that it is late; so does `missed_at`, a run that was due and did not happen, if
    `next_run_at` is the one after it.
    """

    id: str  # the library's own name for it; unique per source, backend and queue
    source: str
    backend: str
    kind: str  # in the library's words: "job scheduler", "repeatable", "cron", "beat"
    name: str | None = None  # of the job it creates
    queue: str | None = None
    ref: QueueRef | None = None
    pattern: str | None = None  # as written: "0 3 * * *", "every 300 s"
    timezone: str | None = None
    next_run_at: datetime | None = None
    missed_at: datetime | None = None
    last_run_at: datetime | None = None
    paused: bool | None = None
    ended: bool = False  # it has reached the end that the app set, so there is no next run
    runs: int | None = None  # so far
    payload: Payload | None = None
    facts: tuple[tuple[str, str], ...] = ()
    problem: str | None = None
