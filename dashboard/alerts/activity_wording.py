"""What notifications about unusually quiet queues say: what is usual at this hour, and what there is now. Pure."""

from __future__ import annotations

from ..clock import instant
from ..history.activity.activities import Activity
from ..model import QueueStats
from ..units import format_count, format_duration, format_number
from .rules.activity_figures import compare_jobs
from .rules.rule import Rule

_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def describe_activity(rule: Rule, activity: Activity | None, queue: QueueStats | None) -> str | None:
    """The details of an alert on one of the metrics about what is usual: usually 120 jobs per hour on Mondays at 10:00
    UTC, now 0 for 25 m. None for other metrics, and if what is usual is not known."""
    if activity is None or activity.usual is None:
        return None
    if rule.metric == "queue.workers_ratio":
        usual = activity.usual.workers
        if usual is None or queue is None or queue.workers is None:
            return None
        workers = format_count(round(usual.workers), "worker")
        return f"usually {workers} {_describe_hour(activity.at, is_weekly=usual.is_weekly)}, now {queue.workers}"
    return _describe_jobs(activity, rule.needed_events) if rule.metric.endswith(".activity_ratio") else None


def _describe_jobs(activity: Activity, least: int) -> str | None:
    found = compare_jobs(activity, least)
    if found is None or found.jobs is None:
        return None
    hourly = format_number(round(found.usual.jobs * 3600 / found.window_s))
    text = f"usually {hourly} jobs per hour {_describe_hour(activity.at, is_weekly=found.usual.is_weekly)}, now"
    if found.jobs or activity.quiet_s is None:
        return f"{text} {format_count(found.jobs, 'job')} in {format_duration(found.window_s)}"
    least_text = "at least " if activity.quiet_at_least else ""
    return f"{text} 0 for {least_text}{format_duration(activity.quiet_s)}"


def _describe_hour(at: float, *, is_weekly: bool) -> str:
    """The hour of the week, or of the day: on Mondays at 10:00 UTC."""
    moment = instant(at)
    if moment is None:
        return "at this hour"
    return f"{f'on {_DAYS[moment.weekday()]} ' if is_weekly else ''}at {moment:%H}:00 UTC"
