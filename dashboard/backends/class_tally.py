"""The classes of the jobs that finished in a queue between two samples, from those whose class could be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..model import ClassFlow, Quality

# If the class of more than this share of the jobs that were looked at is unknown, the others do not stand for all.
MOST_UNKNOWN_RATIO = 0.05
MAX_RUNTIMES = 200
GONE = "finished jobs are removed before their class is read"
NONE = "the classes of the finished jobs were not read"
SOME = "the classes of some of the finished jobs were read, and stand for all"


class ClassesFound(NamedTuple):
    """What a flow says about the classes of its jobs; see QueueFlow."""

    classes: tuple[ClassFlow, ...] | None
    quality: Quality
    reason: str | None


class _Sum:
    __slots__ = ("completed", "dead", "runtimes_s")

    def __init__(self) -> None:
        self.completed = self.dead = 0
        self.runtimes_s: list[float] = []


class ClassTally:
    """Adds up finished jobs by class."""

    def __init__(self, why_unknown: str = GONE) -> None:
        self._sums: dict[str, _Sum] = {}
        self._unknown = 0
        self._why_unknown = why_unknown

    def add(self, job_class: str, completed: int, dead: int, runtimes_s: Iterable[float] = ()) -> None:
        """Add jobs of a class, with the run times of some of them."""
        found = self._sums.get(job_class)
        if found is None:
            found = self._sums[job_class] = _Sum()
        found.completed += completed
        found.dead += dead
        found.runtimes_s += runtimes_s

    def add_unknown(self, jobs: int = 1) -> None:
        """Add jobs that were looked at, and whose class is unknown."""
        self._unknown += jobs

    def include(self, other: ClassTally) -> None:
        """Add the jobs of another tally."""
        for job_class, found in other._sums.items():
            self.add(job_class, found.completed, found.dead, found.runtimes_s)
        self._unknown += other._unknown

    @property
    def runtimes_s(self) -> list[float]:
        """The run times of jobs of all classes."""
        return [runtime_s for found in self._sums.values() for runtime_s in found.runtimes_s]

    def classes_of(self, completed: int, dead: int, flow_reason: str | None = None) -> ClassesFound:
        """The classes of all jobs that finished: those added stand for the others.

        `flow_reason`: why these numbers are not exact; None if they are.
        """
        known = [
            sum(found.completed for found in self._sums.values()),
            sum(found.dead for found in self._sums.values()),
        ]
        if self._unknown > MOST_UNKNOWN_RATIO * (sum(known) + self._unknown):
            return ClassesFound(None, Quality.UNKNOWN, self._why_unknown)
        missing = sum(jobs for jobs, looked in zip((completed, dead), known, strict=True) if not looked)
        if missing > MOST_UNKNOWN_RATIO * (completed + dead):
            return ClassesFound(None, Quality.UNKNOWN, NONE)
        shares = zip(
            self._sums.items(),
            share_out([found.completed for found in self._sums.values()], completed),
            share_out([found.dead for found in self._sums.values()], dead),
            strict=True,
        )
        classes = tuple(
            ClassFlow(job_class=name, completed=good, dead=bad, runtimes_s=tuple(found.runtimes_s[:MAX_RUNTIMES]))
            for (name, found), good, bad in shares
            if good or bad
        )
        if known == [completed, dead]:
            return ClassesFound(classes, Quality.ESTIMATED if flow_reason else Quality.EXACT, flow_reason)
        return ClassesFound(classes, Quality.ESTIMATED, SOME)


def share_out(counts: Sequence[int], total: int) -> list[int]:
    """`counts` in the same proportions with the sum `total`; whole numbers, rounded by largest remainder."""
    known = sum(counts)
    if known in (0, total):
        return list(counts)
    exact = [count * total / known for count in counts]
    found = [int(share) for share in exact]
    by_remainder = sorted(range(len(counts)), key=lambda place: found[place] - exact[place])
    for place in by_remainder[: total - sum(found)]:
        found[place] += 1
    return found
