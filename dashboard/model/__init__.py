"""Immutable values shared by all parts of the program: backends, sampling, alerts, web pages and API.

Import them from here, not from the modules: `from dashboard.model import Job, QueueRef, State`.

None always means "unknown"; 0 and () are known values. Names carry their units: `_s` is seconds, `_bytes` is bytes,
`_ratio` is 0 to 1, `_per_min` is per minute. Instants end in `_at` and are aware UTC datetimes, except inside a
Snapshot, where they are seconds since 1970 so that a snapshot of a thousand queues stays cheap to decode.

Text from Redis is `str` with undecodable bytes as surrogate escapes, so that a name or id can always be converted back
to the exact bytes of its key. `dashboard.web.formatting` makes it printable.
"""

from __future__ import annotations

from .base import Capability, State, Value
from .forecasts import ForecastState, QueueForecast
from .job_classes import ClassBoard, ClassStats
from .jobs import Argument, Job, JobError, JobLink, JobPage, JobQuery, Payload, TimelineEvent
from .marks import Mark
from .queue_flow import ClassFlow, FlowDelta, Quality, QueueFlow
from .queues import (
    Counts,
    NativeCount,
    QueueRef,
    QueueStats,
    RateLimit,
    states_at_least,
    uncounted_states,
    with_shared_entry,
)
from .schedules import Schedule
from .searched_jobs import ScanResult, Searched, Window
from .snapshot import HistoryProblem, Snapshot
from .sources import ClusterNode, RedisHealth, SourceStats
from .storage import QueueStorage, StoredKey
from .workers import Work, Worker, WorkerState

__all__ = [
    "Argument",
    "Capability",
    "ClassBoard",
    "ClassFlow",
    "ClassStats",
    "ClusterNode",
    "Counts",
    "FlowDelta",
    "ForecastState",
    "HistoryProblem",
    "Job",
    "JobError",
    "JobLink",
    "JobPage",
    "JobQuery",
    "Mark",
    "NativeCount",
    "Payload",
    "Quality",
    "QueueFlow",
    "QueueForecast",
    "QueueRef",
    "QueueStats",
    "QueueStorage",
    "RateLimit",
    "RedisHealth",
    "ScanResult",
    "Schedule",
    "Searched",
    "Snapshot",
    "SourceStats",
    "State",
    "StoredKey",
    "TimelineEvent",
    "Value",
    "Window",
    "Work",
    "Worker",
    "WorkerState",
    "states_at_least",
    "uncounted_states",
    "with_shared_entry",
]
