"""The jobs of now and those that are usual, as rules and notifications get them. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..series_keys import SeriesKey
from .usual_activity import Usual


class Activity(NamedTuple):
    """The jobs of a queue or class in the last whole minutes. `at`: until when, in seconds since 1970.

    `recent`: in each of WINDOWS_S of its kind; None while it was not watched that long. `quiet_s`: since the last job;
    `idle_s`: since the last one that arrived; None if unknown. With `…_at_least`, they are lower bounds. `usual`: None
    while it was not read.
    """

    at: float
    windows_s: tuple[int, ...]
    recent: tuple[int | None, ...]
    quiet_s: float | None = None
    quiet_at_least: bool = False
    idle_s: float | None = None
    idle_at_least: bool = False
    usual: Usual | None = None


class Activities(NamedTuple):
    """What a leader knows of all queues and job classes."""

    queues: Mapping[SeriesKey, Activity]
    classes: Mapping[SeriesKey, Activity]


NO_ACTIVITIES = Activities({}, {})
