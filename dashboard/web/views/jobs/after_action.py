"""What happened to a job since the action whose result its page shows: the result alone is soon out of date. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from ....clock import instant
from ....model import Job, State
from ...formatting import duration
from ..flash import ActionFlash
from .timeline import is_failure

# After these the job waits, or runs, until it ends in some way.
_AGAIN = frozenset({"retry"})
_RUNS = _AGAIN | {"promote", "edit", "duplicate"}


class AfterAction(NamedTuple):
    """How a job ended after an action, in a sentence."""

    text: str
    failed: bool


def describe_since(flash: ActionFlash | None, job: Job) -> AfterAction | None:
    """The end of `job` after the action of `flash`; None before it, and if it is not known."""
    if flash is None or flash.verb not in _RUNS or not flash.fine or (acted_at := instant(flash.acted_at)) is None:
        return None
    again = " again" if flash.verb in _AGAIN else ""
    match job.state:
        case State.DEAD | State.RETRYING:
            failed = _span_since(acted_at, _failures(job))
            next_try = " and will be retried" if job.state is State.RETRYING else ""
            if failed is not None:
                return AfterAction(f"It failed{again} {failed} later{next_try}.", failed=True)
            # Moved there by hand, or by a worker whose clock is behind. A job that is to be retried may not have run.
            is_back = again and job.state is State.DEAD
            return AfterAction("It is in the dead letters again.", failed=True) if is_back else None
        case State.COMPLETED:
            completed = _span_since(acted_at, [job.finished_at])
            return None if completed is None else AfterAction(f"It completed {completed} later.", failed=False)
    return None


def _failures(job: Job) -> list[datetime | None]:
    """When the job failed, as its timeline says; Celery's has no failures, only the end."""
    failures: list[datetime | None] = [event.at for event in job.timeline if is_failure(event.event)]
    return failures or [job.finished_at if job.state is State.DEAD else None]


def _span_since(acted_at: datetime, moments: Iterable[datetime | None]) -> str | None:
    """The time from the action to the last of these; None if that was before it."""
    last = max((moment for moment in moments if moment is not None), default=None)
    return duration((last - acted_at).total_seconds()) if last is not None and last > acted_at else None
