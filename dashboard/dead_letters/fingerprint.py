"""Identifies errors by class, message without variable parts, and the frames where they were raised.

Pure and stable: the same failure has the same fingerprint in every process and release, since the annotations of a
group are stored under it. Any change to its input requires a new VERSION.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from ..model import Job
from ..redact import mask_text
from .normalize import MESSAGE_LIMIT, NON_WORDS, folded_word, normalize_message
from .stack_frames import own_frames

VERSION = "2"
LENGTH = 16
CLASS_LIMIT = 200
# For jobs without an error. Part of the fingerprint.
NO_ERROR = "No error is kept with these jobs"
NO_MESSAGE = "(no error message)"
_FINGERPRINT = re.compile(rf"[0-9a-f]{{{LENGTH}}}\Z")


@dataclass(frozen=True, slots=True)
class NormalizedError:
    """An error without what varies from job to job. `fingerprint` is permanent; the other fields are for display."""

    fingerprint: str
    error_class: str | None
    message: str
    frames: tuple[str, ...]


def normalize_error(class_name: str | None, message: str | None, stack: str | None = None) -> NormalizedError:
    """The error of any failure; secrets are masked first. Time: linear, over a bounded part of each text."""
    error_class = "".join(folded_word(part) for part in NON_WORDS.split((class_name or "")[:CLASS_LIMIT])).strip()
    return _build_error(
        error_class or None,
        normalize_message(mask_text((message or "")[: 2 * MESSAGE_LIMIT])),
        own_frames(stack) if stack else (),
    )


def normalize_job_error(job: Job, stack: str | None) -> NormalizedError:
    """The error of a dead job: the one recorded, else the problem with its record, else its name.

    A job that waits in a dead-letter queue has no recorded error; there, each job name is one group.
    """
    if job.error is not None and (job.error.class_name or job.error.message or stack):
        return normalize_error(job.error.class_name, job.error.message, stack)
    if job.problem is not None:
        return _build_error(None, normalize_message(job.problem), ())
    return _build_error(None, f"{NO_ERROR}: {normalize_message(job.name)}" if job.name else NO_ERROR, ())


def error_title(class_name: str | None, message: str | None) -> str:
    """An error in one line, as `TimeoutError: no answer after 5 s`; NO_MESSAGE if it has neither class nor message."""
    return " ".join(": ".join(part for part in (class_name, message) if part).split()) or NO_MESSAGE


def is_fingerprint(text: str) -> bool:
    """Whether `text` has the form of a fingerprint."""
    return _FINGERPRINT.match(text) is not None


def _build_error(error_class: str | None, message: str, frames: tuple[str, ...]) -> NormalizedError:
    parts = "\x1f".join((VERSION, error_class or "", message, *frames))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()
    return NormalizedError(digest[:LENGTH], error_class, message, frames)
