"""What a measurement found: the memory of each queue, of results and of Queuedeck, and the largest jobs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..model import QueueRef, State
from .estimates import Estimate, add_estimates


class QueueMemory(NamedTuple):
    """The memory of one queue. `jobs`: those in it now; `sampled`: those that were measured.

    `is_complete`: False if the budget was used up before all of its lists were sampled; the total is then too low.
    """

    ref: QueueRef
    estimate: Estimate
    jobs: int
    sampled: int
    is_complete: bool = True


class ScatteredMemory(NamedTuple):
    """The memory of keys that belong to no queue: those of a library, such as results, or Queuedeck's own (None)."""

    backend: str | None
    estimate: Estimate
    keys: int  # about that many


class LargeJob(NamedTuple):
    """One of the largest jobs of the sample; `job_id` is "" if it is not known."""

    ref: QueueRef
    state: State
    job_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """`queues`: largest first. `at`: seconds since 1970, by this host's clock. `used_bytes`: all that Redis uses.

    `unmeasured`: queues for which the budget did not suffice, or whose library does not describe its keys.
    """

    at: float
    used_bytes: int | None
    queues: tuple[QueueMemory, ...]
    scattered: tuple[ScatteredMemory, ...]
    largest: tuple[LargeJob, ...]
    unmeasured: int
    scanned_keys: int
    all_keys: int | None
    commands: int
    round_trips: int
    seconds: float

    @property
    def explained(self) -> Estimate:
        """The memory of all queues, of results and of Queuedeck."""
        return add_estimates([*(each.estimate for each in self.queues), *(each.estimate for each in self.scattered)])

    @property
    def in_queues(self) -> Estimate:
        """The memory of all queues and of the results of their jobs, without that of Queuedeck."""
        results = (each.estimate for each in self.scattered if each.backend is not None)
        return add_estimates([*(each.estimate for each in self.queues), *results])

    @property
    def rest_bytes(self) -> float | None:
        """The memory of other keys and of Redis itself; None if the memory used is unknown."""
        return None if self.used_bytes is None else max(0.0, self.used_bytes - self.explained.total_bytes)

    def libraries(self) -> tuple[tuple[str, Estimate, int], ...]:
        """(library, its memory with that of its results, its jobs), largest first."""
        names = dict.fromkeys(
            [*(each.ref.backend for each in self.queues), *(each.backend for each in self.scattered if each.backend)]
        )
        found = []
        for name in names:
            queues = [each for each in self.queues if each.ref.backend == name]
            parts = [each.estimate for each in self.scattered if each.backend == name]
            estimate = add_estimates([*(each.estimate for each in queues), *parts])
            found.append((name, estimate, sum(each.jobs for each in queues)))
        return tuple(sorted(found, key=lambda each: -each[1].total_bytes))
