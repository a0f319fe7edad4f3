"""The newest jobs of an error group in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...backends.base import Backend
from ...dead_letters.groups import GroupMember
from ...errors import BackendUnavailable, QueuedeckError, WrongType
from ...model import Job, QueueRef
from .jobs.stack_trace import StackFrame, frames


@dataclass(frozen=True, slots=True)
class ErrorSample:
    """One job of the group, its queue, and the frames of its stack trace."""

    ref: QueueRef
    job: Job
    stack: tuple[StackFrame, ...]


def read_samples(members: Iterable[GroupMember], backend_of: Callable[[str, str], Backend]) -> tuple[ErrorSample, ...]:
    """The jobs of `members`, except those that no longer exist. Raises BackendUnavailable: then it is not known which.

    Cost: at most 4 round trips each.
    """
    return tuple(sample for member in members if (sample := _read_sample(member, backend_of)) is not None)


def _read_sample(member: GroupMember, backend_of: Callable[[str, str], Backend]) -> ErrorSample | None:
    ref = member.ref
    try:
        job = backend_of(ref.source, ref.backend).read_job(ref, member.dead_letter.id)
    except QueuedeckError as exc:
        if isinstance(exc, BackendUnavailable) and not isinstance(exc, WrongType):
            raise
        return None  # retried or deleted since the group was read, or not readable
    return ErrorSample(ref, job, frames(job.error.stack) if job.error and job.error.stack else ())
