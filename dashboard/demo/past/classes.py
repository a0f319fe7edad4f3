"""What the demo's past says about each job class, from the slots of the queues. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from ...history.columns import CLASS, QUALITY_CODES, QUEUE, Cells, Record, merge_cells
from ...history.tiers import CLASS_HOURS, slot_of
from ...model import Quality
from .queues import PastClass, PastQueue
from .week import Past, PastSlot

_FINISHED, _FAILED = QUEUE.index_of("finished"), QUEUE.index_of("failed")
# BullMQ, and Celery with `result_extended`, report each job of a class; RQ a part of them.
_QUALITIES = {"bullmq": Quality.EXACT, "celery": Quality.EXACT}


def class_records(past: Past, queue: PastQueue, slots: Iterable[PastSlot]) -> dict[PastClass, list[Record]]:
    """The records of each class of a queue in these slots, which have its finished jobs, by time."""
    place = past.queues.index(queue)
    quality = QUALITY_CODES[_QUALITIES.get(queue.backend, Quality.ESTIMATED)]
    found: dict[PastClass, list[Record]] = {one: [] for one in queue.classes}
    for slot in slots:
        finished, failed = slot.queues[place][_FINISHED], slot.queues[place][_FAILED]
        if not queue.classes or not isinstance(finished, int) or not isinstance(failed, int):
            continue
        counts = zip(_split(queue, finished), _split(queue, failed), strict=True)
        for one, (jobs, lost) in zip(queue.classes, counts, strict=True):
            runtimes = past.draw_class(queue, one, jobs, slot.start_s) if queue.timed else None
            cells: Cells = (quality, 0, jobs, min(lost, jobs), runtimes or None)
            found[one].append(Record(slot.start_s, cells))
    return found


def merge_hours(records: Iterable[Record]) -> list[Record]:
    """The same in slots of the coarser tier of classes. What is recorded later in the last slot is added to it."""
    slots = groupby(records, key=lambda record: slot_of(record.start_s, CLASS_HOURS.step_s))
    return [Record(start_s, merge_cells(CLASS, [record.cells for record in each])) for start_s, each in slots]


def _split(queue: PastQueue, jobs: int) -> Iterator[int]:
    """How many of the jobs of a queue are of each class."""
    rest = jobs
    for one in queue.classes[:-1]:
        count = min(rest, round(jobs * one.share))
        rest -= count
        yield count
    yield rest
