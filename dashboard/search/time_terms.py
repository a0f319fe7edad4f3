"""Times in a search: `from:` and `to:`, and with `by:` which time of a job they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from ..clock import instant
from ..errors import Unsupported
from ..model import Job, State
from ..units import read_amount

BOUNDS = ("from", "to")
DEFAULT_TIME = "enqueued"
_DAY_S = 86_400
_FAILED = frozenset({State.DEAD, State.RETRYING})
_RELATIVE = re.compile(r"([+-])([0-9].*)")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:[0-9]{2})?")
HINT = "Write 2026-11-29, 2026-11-29T03:00, 03:00 (today) or -2h. Times are UTC. To search for this text, quote it."


def _failed_at(job: Job) -> datetime | None:
    return job.finished_at if job.state in _FAILED or (job.error and job.state is not State.COMPLETED) else None


# The times that `by:` chooses from; each is None where the library does not record it.
TIMES: Mapping[str, Callable[[Job], datetime | None]] = {
    DEFAULT_TIME: lambda job: job.enqueued_at,
    "started": lambda job: job.started_at,
    "finished": lambda job: job.finished_at,
    "failed": _failed_at,
    "due": lambda job: job.scheduled_for,
}


def read_moment(text: str, now: float, *, is_end: bool = False) -> float:
    """The moment that `text` names, in seconds since 1970; a date is its start in UTC, or its end with `is_end`.

    A time without a date is that of the day of `now`. Raises ValueError for anything else.
    """
    text = text.strip().upper()
    relative = _RELATIVE.fullmatch(text)
    if relative:
        amount_s = read_amount(relative[2].lower(), "s")
        return now - amount_s if relative[1] == "-" else now + amount_s
    if _TIME.fullmatch(text):
        today = instant(now)
        if today is None:
            raise ValueError("expected a time")
        text = f"{today:%Y-%m-%d}T{text}"
    if not (_DATE.fullmatch(text) or _DATE_TIME.fullmatch(text)):
        raise ValueError("expected a time")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() + (_DAY_S if is_end and _DATE.fullmatch(text) else 0)


def check_bound(field: str, text: str, now: float) -> float:
    """The moment of `from:` or `to:`; see read_moment. Raises Unsupported for an invalid one."""
    try:
        return read_moment(text, now, is_end=field == "to")
    except ValueError:
        raise Unsupported(f"Invalid time: {field}:{text[:40]}.", hint=HINT) from None


def check_time(name: str) -> str:
    """The time that `by:` names. Raises Unsupported for one that does not exist."""
    if name not in TIMES:
        *most, last = TIMES
        raise Unsupported(
            f"Invalid time: by:{name[:40]}.", hint=f"Write {', by:'.join(['by:' + most[0], *most[1:]])} or by:{last}."
        )
    return name


def bound_holds(field: str, text: str, by: str, job: Job, now: float) -> bool | None:
    """Whether the time `by` of the job is at or after `from:`, or before `to:`. None where its time is unknown."""
    at = TIMES[by](job)
    if at is None:
        return None
    limit = read_moment(text, now, is_end=field == "to")
    return at.timestamp() >= limit if field == "from" else at.timestamp() < limit
