"""The classes, waits and names in a reply of flow.lua."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ....model import Quality
from ....sources.source import text
from ...class_tally import ClassTally
from .cursor import EventCursor, JobName

MAX_WAITS = 200
# The jobs of a queue whose names are remembered until they finish, if finished jobs are removed.
MAX_NAMES = 300
UNKNOWN = "finished jobs could not be counted, so their classes are unknown"


class ClassReply(NamedTuple):
    """What a sample read about the jobs that finished; `retried` is None if events are missing."""

    tally: ClassTally
    waits_s: tuple[float, ...]
    retried: int | None

    def flow_fields(self, completed: int, dead: int, reason: str | None, *, counted: bool) -> Mapping[str, Any]:
        """The fields of the flow. `counted`: `completed` and `dead` are known; `reason`: why they are not exact."""
        found = self.tally.classes_of(completed, dead, reason) if counted else (None, Quality.UNKNOWN, UNKNOWN)
        names = ("classes", "classes_quality", "classes_reason")
        return {"waits_s": self.waits_s, "retried": self.retried, **dict(zip(names, found, strict=True))}


def parse_classes(
    reply: Sequence[Any] | None, retried: int | None, before: EventCursor | None
) -> tuple[ClassReply, set[bytes]]:
    """Return what flow.lua found about the classes, and the ids of finished jobs that were gone."""
    tally = ClassTally()
    classes, waits, unknown = reply or ((), (), ())
    waits_s = [ms / 1000 for ms in waits]
    for name, completed, dead, runtimes in classes:
        tally.add(text(name), completed, dead, [ms / 1000 for ms in runtimes])
    names, started = (before.names or {}, before.started) if before else ({}, {})
    gone = set(unknown[::3])
    for job_id, is_dead, stop_ms in zip(unknown[::3], unknown[1::3], unknown[2::3], strict=True):
        found, start_ms = names.get(job_id), started.get(job_id)
        if found is None:
            tally.add_unknown()
            continue
        times_s = [(stop_ms - start_ms) / 1000] if start_ms is not None and stop_ms >= start_ms else []
        tally.add(text(found.name), 1 - is_dead, is_dead, times_s)
        if start_ms is not None and found.added_ms is not None and not is_dead and start_ms >= found.added_ms:
            waits_s.append((start_ms - found.added_ms) / 1000)
    return ClassReply(tally, tuple(waits_s[:MAX_WAITS]), retried), gone


def remember_names(
    reply: Sequence[Any] | None, gone: set[bytes], before: EventCursor | None
) -> dict[bytes, JobName] | None:
    """Return the names of jobs that have not finished; None while finished jobs stay."""
    known = before.names if before else None
    if known is None:
        return {} if gone else None
    found = {job_id: name for job_id, name in known.items() if job_id not in gone}
    for job_id, name, added_ms in zip((reply or ())[::3], (reply or ())[1::3], (reply or ())[2::3], strict=True):
        former = found.pop(job_id, None)
        if name:
            found[job_id] = JobName(name, added_ms if added_ms is not None or former is None else former.added_ms)
    return dict(list(found.items())[-MAX_NAMES:])
