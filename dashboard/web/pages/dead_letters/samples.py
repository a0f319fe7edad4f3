"""The newest jobs of an error group in full, read when they change instead of with every poll."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from ....dead_letters.groups import SAMPLES, ErrorGroup, GroupMember
from ....dead_letters.lists import BackendOf
from ....errors import QueuedeckError
from ....model import Job, QueueRef
from ...context import app_context, app_services
from ...views.stack_trace import StackFrame, frames

# Groups whose samples are cached, at most some hundred kB each.
MAX_KEPT = 32


@dataclass(frozen=True, slots=True)
class ErrorSample:
    """One job of the group, its queue, and the frames of its stack trace."""

    ref: QueueRef
    job: Job
    stack: tuple[StackFrame, ...]


class ErrorSamples:
    """A cache of samples, least recently used first out. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], tuple[ErrorSample, ...]] = OrderedDict()

    def of(self, group: ErrorGroup) -> tuple[ErrorSample, ...]:
        """The newest SAMPLES jobs of `group`, except those that no longer exist.

        Cost: none, or at most 4 round trips each.
        """
        members, backend_of = group.jobs[:SAMPLES], app_services().sources.backend
        key = (id(app_context()), group.kind.id, *((member.ref, member.row.id, member.row.at) for member in members))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = tuple(sample for member in members if (sample := _read(backend_of, member)) is not None)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return found


def _read(backend_of: BackendOf, member: GroupMember) -> ErrorSample | None:
    ref = member.ref
    try:
        job = backend_of(ref.source, ref.backend).read_job(ref, member.row.id)
    except QueuedeckError:
        return None  # retried or deleted since the group was read
    return ErrorSample(ref, job, frames(job.error.stack) if job.error and job.error.stack else ())


kept = ErrorSamples()
