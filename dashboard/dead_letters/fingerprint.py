"""What makes two failures the same error: its class, its message without the particulars, and where it was raised.

Pure and stable: the same failure has the same fingerprint in every process and release, for people's words on a group
are kept under it. A change of what counts must change VERSION.
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
# A message of which nothing is left says no more than its absence.
NO_ERROR = "No error is kept with these jobs"
_FINGERPRINT = re.compile(rf"[0-9a-f]{{{LENGTH}}}\Z")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One kind of error. `id` is its name for ever; the rest is for people."""

    id: str
    error_class: str | None
    message: str
    frames: tuple[str, ...]


def of_error(class_name: str | None, message: str | None, stack: str | None = None) -> Fingerprint:
    """The fingerprint of a failure, whatever is in it; secrets do not count. Time: linear, over a part of each text."""
    kind = "".join(folded_word(part) for part in NON_WORDS.split((class_name or "")[:CLASS_LIMIT])).strip()
    return _build_fingerprint(
        kind or None,
        normalize_message(mask_text((message or "")[: 2 * MESSAGE_LIMIT])),
        own_frames(stack) if stack else (),
    )


def of_job(job: Job, stack: str | None) -> Fingerprint:
    """The fingerprint of what stopped `job`: its error, what is wrong with its record, or its name for want of both.

    A job that waits in a dead-letter queue keeps no error of its own; there one kind of job is one group.
    """
    if job.error is not None and (job.error.class_name or job.error.message or stack):
        return of_error(job.error.class_name, job.error.message, stack)
    if job.problem is not None:
        return _build_fingerprint(None, normalize_message(job.problem), ())
    return _build_fingerprint(None, f"{NO_ERROR}: {normalize_message(job.name)}" if job.name else NO_ERROR, ())


def is_fingerprint(text: str) -> bool:
    """Whether `text` has the form of one."""
    return _FINGERPRINT.match(text) is not None


def _build_fingerprint(error_class: str | None, message: str, where: tuple[str, ...]) -> Fingerprint:
    parts = "\x1f".join((VERSION, error_class or "", message, *where))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()
    return Fingerprint(digest[:LENGTH], error_class, message, where)
