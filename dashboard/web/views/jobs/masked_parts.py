"""Which parts of a job have masked values. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ....model import Job, Payload
from ....redact import MASK

MAX_DEPTH = 70  # more than masked values have levels


def masked_parts(job: Job) -> tuple[str, ...]:
    """The parts of a job in which something is masked, in the order of its page, as the audit log names them."""
    error = job.error
    parts: tuple[tuple[str, Iterable[Any]], ...] = (
        ("name", (job.name,)),
        ("error", (error.class_name, error.message) if error else ()),
        ("stack trace", (error.stack,) if error else ()),
        ("timeline", (event.detail for event in job.timeline)),
        ("payload", _texts(job.payload)),
        ("result", _texts(job.result)),
        ("options", _texts(job.options)),
        ("meta", _texts(job.meta)),
        ("logs", job.logs),
        ("progress", (job.progress,)),
        ("details", (job.worker, job.problem, *(text for _, text in job.facts))),
    )
    return tuple(name for name, values in parts if any(_has_mask(value, 0) for value in values))


def _texts(payload: Payload | None) -> tuple[str | None, ...]:
    return (payload.text, payload.note) if payload is not None else ()


def _has_mask(value: Any, depth: int) -> bool:
    if isinstance(value, str):
        return MASK in value
    if depth >= MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return any(MASK in key or _has_mask(child, depth + 1) for key, child in value.items())
    return isinstance(value, list) and any(_has_mask(child, depth + 1) for child in value)
