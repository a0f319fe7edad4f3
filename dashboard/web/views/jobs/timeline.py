"""The timeline of a job: its events in order, and what happened between them, on one time axis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ....model import Job, State, TimelineEvent

# The length of the axis, in units of the bars' view box.
AXIS = 1000
MIN_BAR = 4
_RUNNING = ("start", "active", "process", "attempt", "running")
_BAD = ("fail", "dead", "error", "stall", "abandon")
_GOOD = ("complet", "finish", "success", "done")


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One event. Its bar is the time since the previous event: `x` and `width` on the axis, `kind` what the job did.

    kind: wait, run, or "" for the first event, which has no bar. mark: bad, good or "".
    """

    event: TimelineEvent
    since_s: float | None
    x: int
    width: int
    kind: str
    mark: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All events, oldest first, and the durations that the page shows."""

    steps: tuple[TimelineStep, ...]
    total_s: float | None
    waited_s: float | None
    ran_s: float | None


def story(job: Job) -> Timeline:
    """The timeline of `job`, from its recorded events, or from its timestamps if it has none."""
    events = sorted(job.timeline or _events(job), key=lambda event: event.at)
    first = events[0].at if events else None
    total_s = (events[-1].at - first).total_seconds() if first is not None else None
    steps: list[TimelineStep] = []
    for index, event in enumerate(events):
        before = events[index - 1] if index else None
        since_s = (event.at - before.at).total_seconds() if before else None
        kind = "" if before is None else ("run" if _starts(before.event) else "wait")
        x, width = 0, 0
        if before is not None and first is not None and total_s:
            x = round((before.at - first).total_seconds() / total_s * AXIS)
            width = max(MIN_BAR, round((since_s or 0.0) / total_s * AXIS))
            x = min(x, AXIS - width)
        mark = "bad" if _is(event.event, _BAD) else ("good" if _is(event.event, _GOOD) else "")
        steps.append(TimelineStep(event, since_s, x, width, kind, mark))
    return Timeline(tuple(steps), total_s, _between(job.enqueued_at, job.started_at), _ran(job))


def is_failure(event: str) -> bool:
    """Whether an event of a timeline is the failure of a run."""
    return _is(event, ("fail",))


def _events(job: Job) -> list[TimelineEvent]:
    ended = "failed" if job.state is State.DEAD else "finished"
    moments = (("enqueued", job.enqueued_at), ("started", job.started_at), (ended, job.finished_at))
    return [TimelineEvent(at=at, event=event) for event, at in moments if at is not None]


def _starts(event: str) -> bool:
    # "attempt failed" names an attempt but marks its end.
    return _is(event, _RUNNING) and not _is(event, (*_BAD, *_GOOD))


def _is(event: str, words: tuple[str, ...]) -> bool:
    low = event.lower()
    return any(word in low for word in words)


def _ran(job: Job) -> float | None:
    return _between(job.started_at, job.finished_at)


def _between(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None or end < start:
        return None
    return (end - start).total_seconds()
