"""Jobs that finished between two samples, from which rates are derived."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from .base import State, Value


class Quality(StrEnum):
    """How reliable a rate is."""

    EXACT = "exact"  # every job was counted
    ESTIMATED = "estimated"  # derived from what the library stores; see the reason
    UNKNOWN = "unknown"


class ClassFlow(Value, frozen=True, kw_only=True, gc=False):
    """The jobs of one class of a queue that finished between two samples, as in QueueFlow.

    `runtimes_s`: run times of some of them; each stands for equally many.
    """

    job_class: str
    completed: int
    dead: int
    runtimes_s: tuple[float, ...] = ()


class QueueFlow(Value, frozen=True, kw_only=True, gc=False):
    """The jobs of one queue that finished between two samples: `completed` and permanently failed (`dead`).

    `span_s`: the seconds actually covered, which can be less than the time that passed (a trimmed stream).
    `runtimes_s`: at most 200 run times of finished jobs, in no particular order.
    `hidden`: State.COMPLETED, State.DEAD or both, if jobs reached that state within FLOW_WINDOW_S without leaving a
    trace. `completed` or `dead` is then only part of the number, and no rate can be computed from it.
    `ended`: the total number of finished jobs, if it is known in spite of that.
    `progressed`: whether jobs of the queue were processed, if these counts do not show it; None if unknown.
    `unlisted`: states whose lists stay empty because the library is set not to keep such jobs.
    `incomplete_start`: the first sample did not report all jobs that finished before it; its figures about that time
    must be discarded.
    `waits_s`: how long jobs that finished or started had waited until they started, sampled like `runtimes_s`.
    `retried`: the jobs that failed and will be retried; None if unknown.
    `classes`: the finished jobs by class; None if their classes are unknown. Of a queue in which nothing finished it
    says nothing. `classes_reason`: why it is unknown or estimated.
    """

    key: str
    completed: int
    dead: int
    span_s: float
    quality: Quality
    reason: str | None = None
    runtimes_s: tuple[float, ...] = ()
    hidden: tuple[State, ...] = ()
    ended: int | None = None
    progressed: bool | None = None
    unlisted: tuple[State, ...] = ()
    unlisted_reason: str | None = None
    incomplete_start: bool = False
    waits_s: tuple[float, ...] = ()
    retried: int | None = None
    classes: tuple[ClassFlow, ...] | None = None
    classes_quality: Quality = Quality.UNKNOWN
    classes_reason: str | None = None

    @classmethod
    def unknown(cls, key: str, reason: str) -> Self:
        """Return the flow of a queue of which nothing is known, and why."""
        return cls(key=key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=reason)


class FlowDelta(Value, frozen=True, kw_only=True):
    """The result of `Backend.read_flow`: one QueueFlow per queue that could be read.

    `together`: the jobs that finished in exactly those queues whose own rates are `hidden` and cannot be separated, if
    their sum is known.
    """

    queues: tuple[QueueFlow, ...]
    together: QueueFlow | None = None
