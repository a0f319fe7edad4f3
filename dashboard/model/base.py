"""What the other values are made of: their base class, the states of a job, the features of a library."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of all values here: immutable, keyword-only, cheap to encode.

    Classes with many instances set `gc=False`, as they are never part of a reference cycle; otherwise each garbage
    collection would traverse them all. `array_like=True` means that a value is published without its field names; see
    sampling/snapshot_parts.py.
    """


class State(StrEnum):
    """The eight states of a job, the same for every library. Each backend also reports the library's own word."""

    WAITING = "waiting"  # can start now
    ACTIVE = "active"  # running
    SCHEDULED = "scheduled"  # starts at a set time
    RETRYING = "retrying"  # failed, will be retried automatically
    BLOCKED = "blocked"  # waiting for other jobs
    DEAD = "dead"  # dead letter: failed permanently, needs a user action to run again
    COMPLETED = "completed"
    CANCELED = "canceled"


class Capability(StrEnum):
    """A feature that a library supports. Check it before calling a backend and before rendering."""

    QUEUE_PAUSE = "queue_pause"  # a single queue can be paused
    PRIORITIES = "priorities"
    PROGRESS = "progress"
    LOGS = "logs"
    RESULTS = "results"
    FLOWS = "flows"  # jobs with parents or children
    WORKERS = "workers"  # workers can be listed, and counted per queue
    SCHEDULES = "schedules"  # schedules that create jobs at set times
    SEARCH = "search"  # jobs can be searched by their text
    CLASSES = "classes"  # runs, failures and run times are known per job class
