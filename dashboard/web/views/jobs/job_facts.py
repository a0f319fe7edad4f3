"""What a job page says of details, progress and the errors of former attempts. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ....backends.job_facts import IN_SECONDS, IN_WORDS
from ....backends.payloads.decoding import loads
from ....model import Job, State
from ....units import format_number, format_percent
from ...formatting import duration, one_line
from .payload_tree import PayloadNode, build_tree, read_iso

# In these states the job is past the error that it still stores.
_PAST_ERROR = frozenset({State.COMPLETED, State.ACTIVE, State.WAITING, State.BLOCKED})


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress that a job reported: `text` in one line, `percent` for a bar, `tree` for JSON."""

    text: str = ""
    percent: int | None = None
    tree: PayloadNode | None = None


@dataclass(frozen=True, slots=True)
class JobFact:
    """A detail of a job: its label, and a text or the time `at`."""

    label: str
    text: str
    at: datetime | None = None


def describe_facts(job: Job) -> tuple[JobFact, ...]:
    """The details that only its library stores, as people write them; those without a value are left out."""
    return tuple(_describe_fact(label, text) for label, text in job.facts if text)


def _describe_fact(label: str, text: str) -> JobFact:
    title = label.removesuffix(IN_SECONDS)
    if text in (words := IN_WORDS.get(label, {})):
        return JobFact(title, words[text])
    if title != label:
        # What is no number of seconds keeps its unit in the label.
        spans = _describe_seconds(text)
        return JobFact(title, spans) if spans else JobFact(label, text)
    return JobFact(label, text, read_iso(text))


def _describe_seconds(text: str) -> str | None:
    """A number of seconds, or a JSON list of them, in words; None for anything else."""
    try:
        value = loads(text.encode("utf-8", "replace"))
    except ValueError:
        return None
    numbers = [_number_or_none(each) for each in (value if isinstance(value, list) else [value])]
    if not numbers or any(number is None for number in numbers):
        return None
    return ", ".join("no limit" if number is not None and number < 0 else duration(number) for number in numbers)


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
