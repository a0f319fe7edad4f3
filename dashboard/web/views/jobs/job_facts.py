"""What a job page says of progress and of the errors of former attempts. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ....model import Job, State
from ....units import format_number, format_percent
from ...formatting import one_line
from .payload_tree import PayloadNode, build_tree

# In these states the job is past the error that it still stores.
_PAST_ERROR = frozenset({State.COMPLETED, State.ACTIVE, State.WAITING, State.BLOCKED})


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress that a job reported: `text` in one line, `percent` for a bar, `tree` for JSON."""

    text: str = ""
    percent: int | None = None
    tree: PayloadNode | None = None


def describe_progress(progress: Any) -> JobProgress | None:
    """Describe what the application reported: a percentage, `current` of `total`, a text or any JSON; None for none.

    A number between 0 and 1 can be a share as well as a percentage, so it is shown as it is.
    """
    if progress is None:
        return None
    number = _number_or_none(progress)
    if number is not None:
        if number > 100 or number < 0 or 0 < number < 1:
            return JobProgress(format_number(number))
        return JobProgress(format_percent(number / 100), int(number))
    if isinstance(progress, str):
        return JobProgress(one_line(progress))
    if not isinstance(progress, dict):
        return JobProgress(tree=build_tree(progress))
    current, total = _number_or_none(progress.get("current")), _number_or_none(progress.get("total"))
    if current is None or not total or not 0 <= current <= total:
        return JobProgress(tree=build_tree(progress))
    text = f"{format_number(current)} of {format_number(total)} ({format_percent(current / total)})"
    rest = {name: value for name, value in progress.items() if name not in ("current", "total")}
    return JobProgress(text, int(current / total * 100), build_tree(rest) if rest else None)


def former_error_title(job: Job) -> str | None:
    """The error of a former attempt in one line, for a job that is past it; None if the error explains its state."""
    if job.error is None or job.state not in _PAST_ERROR or job.abandoned:
        return None
    error = ": ".join(part for part in (job.error.class_name, job.error.message) if part) or "no error message"
    is_second = job.state is State.COMPLETED and job.attempts == 2
    return f"{'Attempt 1' if is_second else 'An earlier attempt'} failed: {one_line(error)}"


def _number_or_none(value: Any) -> float | None:
    """A number that a float can hold; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
