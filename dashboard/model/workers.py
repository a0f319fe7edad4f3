"""Worker processes and what they are running."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from .base import Value
from .queues import QueueRef


class WorkerState(StrEnum):
    """What a worker process is doing, derived from what it writes to Redis."""

    BUSY = "busy"
    IDLE = "idle"
    QUIET = "quiet"  # finishes its running jobs and fetches no new ones
    SUSPECT = "suspect"  # its heartbeat is overdue
    DEAD = "dead"  # ended without shutting down cleanly
    UNKNOWN = "unknown"


class Work(Value, frozen=True, kw_only=True):
    """One job that a worker is running. `ref` is None if its queue is not one that Queuedeck can address."""

    job_id: str
    job_name: str | None = None
    queue: str | None = None
    ref: QueueRef | None = None
    started_at: datetime | None = None


class Worker(Value, frozen=True, kw_only=True):
    """One worker process, or one of its connections if the library reports no more. Unknown figures are None."""

    id: str  # the library's own name for it; unique per source and backend
    source: str
    backend: str
    state: WorkerState
    reason: str | None = None  # why it is suspect, dead or unknown
    hostname: str | None = None
    pid: int | None = None
    version: str | None = None  # of the library
    queues: tuple[str, ...] = ()  # names as in QueueRef, in the order in which they are served
    concurrency: int | None = None
    busy: int | None = None
    work: tuple[Work, ...] = ()  # longest running first, at most 100
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    rss_bytes: int | None = None
    processed: int | None = None
    failed: int | None = None
    facts: tuple[tuple[str, str], ...] = ()  # details specific to this library: (label, text)
    problem: str | None = None  # what is wrong with its record
