"""The queues whose figures changed most in a range of time. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..history.columns import QUEUE
from ..history.series_keys import SeriesKey
from ..history.slots import Slot

MOST_AFFECTED = 15
_DEPTH, _FINISHED, _FAILED = (QUEUE.index_of(name) for name in ("depth", "finished", "failed"))


class AffectedQueue(NamedTuple):
    """A queue in the range; None where a figure is unknown. `peak_at_s`, `peak_until_s`: the slot with the
    peak, which is as long as the range makes it.

    `finished` counts all jobs that ended, and `failed` those of them that failed.
    """

    key: SeriesKey
    depth_before: int | None
    depth_peak: int | None
    peak_at_s: int | None
    peak_until_s: int | None
    depth_after: int | None
    finished: int | None
    failed: int | None

    @property
    def growth(self) -> int | None:
        """By how many waiting jobs it grew, from the beginning of the range to its peak."""
        if self.depth_before is None or self.depth_peak is None:
            return None
        return self.depth_peak - self.depth_before

    @property
    def is_affected(self) -> bool:
        """Whether it grew, or jobs failed."""
        return bool(self.growth or self.failed)

    @property
    def score(self) -> int:
        """The jobs that were waiting in addition, and those that failed."""
        return (self.growth or 0) + (self.failed or 0)


class AffectedQueues(NamedTuple):
    """The most affected queues, worst first; `hidden` more are affected. `examined` of `known` queues were read."""

    queues: tuple[AffectedQueue, ...] = ()
    hidden: int = 0
    examined: int = 0
    known: int = 0


def rank_queues(slots_of: Mapping[SeriesKey, Sequence[Slot]], step_s: int, known: int) -> AffectedQueues:
    """The queues of `slots_of` that are affected; `step_s`: the length of a slot; `known`: how many queues there
    are in all."""
    found = [queue for key, slots in slots_of.items() if (queue := measure_queue(key, slots, step_s)).is_affected]
    found.sort(key=lambda queue: (-queue.score, queue.key[1:]))
    return AffectedQueues(tuple(found[:MOST_AFFECTED]), max(0, len(found) - MOST_AFFECTED), len(slots_of), known)


def measure_queue(key: SeriesKey, slots: Sequence[Slot], step_s: int) -> AffectedQueue:
    """The figures of one queue over its slots, oldest first."""
    depths = [(slot.start_s, cell) for slot in slots if isinstance(cell := _cell(slot, _DEPTH), int)]
    # The first of the highest: when it was reached.
    peak = max(depths, key=lambda each: each[1], default=(None, None))
    return AffectedQueue(
        key,
        depths[0][1] if depths else None,
        peak[1],
        peak[0],
        None if peak[0] is None else peak[0] + step_s,
        depths[-1][1] if depths else None,
        _total(slots, _FINISHED),
        _total(slots, _FAILED),
    )


def _cell(slot: Slot, place: int) -> object:
    return None if slot.cells is None else slot.cells[place]


def _total(slots: Sequence[Slot], place: int) -> int | None:
    counts = [cell for slot in slots if isinstance(cell := _cell(slot, place), int)]
    return sum(counts) if counts else None
