"""How figures are read that compare jobs and workers with those that are usual at this hour. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ...history.activity.activities import Activity
from ...history.activity.usual_activity import UsualJobs
from ...model import QueueStats
from ..evaluation.durations import QueueFacts
from .figures import NOT_USUAL, PAUSED, AtLeast, Figure

# What is usual counts only if each of the compared times had at least this share of it.
STEADY_JOBS, STEADY_WORKERS = 0.25, 0.5


class ComparedJobs(NamedTuple):
    """The jobs of the last `window_s`, None if unknown, and those that are usual."""

    jobs: int | None
    usual: UsualJobs
    window_s: int


def compare_jobs(activity: Activity, least: int) -> ComparedJobs | None:
    """The jobs of the shortest time in which at least `least` are usual; None if there is no such time: that many are
    not usual at this hour, or not in each of the compared weeks, or too little of the past is stored."""
    for place, usual in enumerate(activity.usual.jobs if activity.usual else ()):
        if usual is not None and usual.jobs >= max(least, 1) and usual.lowest >= STEADY_JOBS * usual.jobs:
            return ComparedJobs(activity.recent[place], usual, activity.windows_s[place])
    return None


def compare_activity(activity: Activity | None, least: int) -> Figure:
    """The share of the usual jobs; None while they are not read, or not watched for long enough."""
    if activity is None or activity.usual is None:
        return None
    found = compare_jobs(activity, least)
    if found is None:
        return NOT_USUAL
    return None if found.jobs is None else found.jobs / found.usual.jobs


def activity_ratio(queue: QueueStats, facts: QueueFacts, least: int) -> Figure:
    return PAUSED if queue.paused else compare_activity(facts.activity, least)


def workers_ratio(queue: QueueStats, facts: QueueFacts, least: int) -> Figure:
    activity = facts.activity
    if queue.paused:
        return PAUSED
    if queue.workers is None or activity is None or activity.usual is None:
        return None
    usual = activity.usual.workers
    if usual is None or usual.workers < max(least, 1) or usual.lowest < STEADY_WORKERS * usual.workers:
        return NOT_USUAL
    return queue.workers / usual.workers


def enqueue_idle(_queue: QueueStats, facts: QueueFacts, _least: int) -> Figure:
    activity = facts.activity
    if activity is None or activity.idle_s is None:
        return None
    return AtLeast(activity.idle_s) if activity.idle_at_least else activity.idle_s
