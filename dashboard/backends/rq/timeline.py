"""The timeline of a job, from its time fields and from the results stream (at most the ten newest runs)."""

from __future__ import annotations

from datetime import datetime, timedelta

from ...clock import instant
from ...model import TimelineEvent
from ..payloads.decoding import printable
from .job_hashes import JobHash, RunResult
from .serialization import parse_time

# Type of a result -> the event. Source: rq 3.0, results.py, Result.Type.
_ENDS = {
    b"1": "completed",
    b"2": "failed",
    b"3": "stopped",
    b"4": "attempt finished, retry requested",
    b"5": "failed, retries exhausted",
}
_STATUS_ENDS = {"finished": "completed", "failed": "failed", "stopped": "stopped", "canceled": "finished, canceled"}
# The hash and the stream record the same moment at slightly different times.
_SAME = timedelta(seconds=1)


def build_timeline(record: JobHash) -> tuple[TimelineEvent, ...]:
    """Return the events created, enqueued, started and finished, oldest first, with each run still in the stream."""
    events = [
        TimelineEvent(at=at, event=event)
        for event, field in (("created", "created_at"), ("enqueued", "enqueued_at"))
        if (at := parse_time(record.text(field))) is not None
    ]
    status, worker = record.text("status"), record.text("worker_name")
    started, ended = parse_time(record.text("started_at")), parse_time(record.text("ended_at"))
    runs = [event for entry in reversed(record.entries) for event in _run_events(entry, ended)]
    events += runs
    if started is not None and not _is_listed(runs, "started", started):
        events.append(TimelineEvent(at=started, event="started", detail=_worker_note(worker)))
    if ended is not None and status in _STATUS_ENDS and not any(_are_near(run.at, ended) for run in runs):
        events.append(TimelineEvent(at=ended, event=_STATUS_ENDS[status]))
    return tuple(sorted(events, key=lambda event: event.at))


def _run_events(entry: RunResult, last: datetime | None) -> list[TimelineEvent]:
    """Return the start, if this RQ version records it, and the end of one run; `last` = when the newest run finished.

    Before 2.12 an entry has only the time in its id, in milliseconds, which can be before the start of a quick run.
    """
    started = _parse_seconds(entry.fields.get("execution_started_at"))
    ended = _parse_seconds(entry.fields.get("execution_ended_at")) or _entry_time(entry)
    if started is None and ended is not None and last is not None and _are_near(ended, last):
        ended = last
    worker = entry.fields.get("worker_name")
    detail = _worker_note(printable(worker, 200) if worker else None)
    events = [] if started is None else [TimelineEvent(at=started, event="started", detail=detail)]
    if ended is not None:
        word = _ENDS.get(entry.fields.get("type", b""), "finished")
        events.append(TimelineEvent(at=ended, event=word, detail=None if events else detail))
    return events


def _is_listed(runs: list[TimelineEvent], event: str, at: datetime) -> bool:
    return any(run.event == event and _are_near(run.at, at) for run in runs)


def _are_near(one: datetime, other: datetime) -> bool:
    return abs(one - other) <= _SAME


def _worker_note(worker: str | None) -> str | None:
    return f"by worker {printable(worker, 200)}" if worker else None


def _parse_seconds(raw: bytes | None) -> datetime | None:
    try:
        return instant(float(raw)) if raw else None
    except ValueError:
        return None


def _entry_time(entry: RunResult) -> datetime | None:
    milliseconds = entry.id.partition("-")[0]
    return instant(int(milliseconds) / 1000) if milliseconds.isdigit() and len(milliseconds) < 20 else None
