"""What finished in a job class within a time, added up from its records. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from ...model import Quality
from ..columns import CLASS, QUALITY_CODES, Record
from ..histogram import LAST_BUCKET, Histogram, add_histogram
from .windows import STEP_S, Window

_QUALITY, _UNCOUNTED, _FINISHED, _FAILED, _RUNTIMES = (
    CLASS.index_of(name) for name in ("quality", "uncounted_ms", "finished", "failed", "runtimes")
)
_QUALITIES = {code: quality for quality, code in QUALITY_CODES.items()}


class StoredRecord(NamedTuple):
    """A record, the length of its slot, and the time that its durations cover, both in seconds."""

    record: Record
    step_s: int
    span_s: int


class ClassTotals(NamedTuple):
    """What finished in a class, in `counted_ms` of sampled time; None where it is unknown."""

    counted_ms: int
    quality: Quality
    finished: int | None
    failed: int | None
    runtimes: Histogram


class SampledTime:
    """The time in which a source was sampled."""

    def __init__(self, start_s: int, sampled_ms: Sequence[int]) -> None:
        """`sampled_ms`: by slot of STEP_S, from `start_s` on."""
        self._start_s = start_s
        self._sums = [0, *accumulate(sampled_ms)]

    def between(self, start_s: int, end_s: int) -> int:
        """The milliseconds that were sampled between two moments, each the beginning of a slot."""
        return self._until(max(start_s, end_s)) - self._until(start_s)

    def _until(self, at_s: int) -> int:
        return self._sums[min(max(0, (at_s - self._start_s) // STEP_S), len(self._sums) - 1)]


def add_up(records: Sequence[StoredRecord], window: Window, sampled: SampledTime) -> ClassTotals | None:
    """The totals of a class within a window, from its records by time; None if nothing is known of it by then.

    Without a record, no job finished, unless the last record before says that this is unknown.
    """
    inside = [stored for stored in records if window.start_s <= stored.record.start_s < window.end_s]
    before = [stored.record for stored in records if stored.record.start_s < window.start_s]
    was_known = bool(before) and before[-1].cells[_FINISHED] is not None
    if not inside and not before:
        return None
    known = [stored.record for stored in inside if stored.record.cells[_FINISHED] is not None]
    idle = 0 if was_known else None
    uncounted_ms = _count_unknown_ms(inside, window, sampled, is_known=was_known or not before)
    codes = [code for record in known or before[-1:] if isinstance(code := record.cells[_QUALITY], int)]
    return ClassTotals(
        counted_ms=max(0, sampled.between(window.start_s, window.end_s) - uncounted_ms),
        quality=_QUALITIES.get(min(codes, default=0), Quality.UNKNOWN),
        finished=_sum_cells(known, _FINISHED) if known else idle,
        failed=_sum_cells(known, _FAILED) if known else idle,
        runtimes=_durations_within(records, window),
    )


def merge_totals(totals: Iterable[ClassTotals]) -> ClassTotals:
    """The totals of the same class in several queues of one source; there must be at least one.

    As for queues: the sums are of those that are known, and the quality is then at most ESTIMATED if some are not.
    """
    parts = list(totals)
    known = [part for part in parts if part.finished is not None]
    codes = [QUALITY_CODES[part.quality] for part in known]
    if known and len(known) < len(parts):
        codes.append(QUALITY_CODES[Quality.ESTIMATED])
    failed = [part.failed for part in known if part.failed is not None]
    runtimes: Histogram = {}
    for part in parts:
        add_histogram(runtimes, part.runtimes)
    return ClassTotals(
        counted_ms=max(part.counted_ms for part in known or parts),
        quality=_QUALITIES[min(codes, default=0)],
        finished=sum(part.finished or 0 for part in known) if known else None,
        failed=sum(failed) if failed else None,
        runtimes=runtimes,
    )


def _sum_cells(records: Sequence[Record], place: int) -> int | None:
    cells = [cell for record in records if isinstance(cell := record.cells[place], int)]
    return sum(cells) if cells else None


def _count_unknown_ms(inside: Sequence[StoredRecord], window: Window, sampled: SampledTime, *, is_known: bool) -> int:
    """The sampled time in which jobs of the class were not counted. `is_known`: whether they were, before."""
    uncounted_ms = 0
    unknown_from_s = None if is_known else window.start_s
    for (start_s, cells), step_s, _ in inside:
        if unknown_from_s is not None:
            uncounted_ms += sampled.between(unknown_from_s, start_s)
        if isinstance(cell := cells[_UNCOUNTED], int):
            uncounted_ms += cell
        unknown_from_s = None
        if cells[_FINISHED] is None:
            unknown_from_s = start_s if cells[_UNCOUNTED] is None else start_s + step_s
    if unknown_from_s is not None:
        uncounted_ms += sampled.between(unknown_from_s, window.end_s)
    return uncounted_ms


def _durations_within(records: Sequence[StoredRecord], window: Window) -> Histogram:
    """The durations of the records within a window; of those that cover more than that, their share."""
    counts = [0] * (LAST_BUCKET + 1)
    for (start_s, cells), _, span_s in records:
        histogram = cells[_RUNTIMES]
        if not isinstance(histogram, dict) or start_s >= window.end_s or start_s + span_s <= window.start_s:
            continue
        inside_s = min(window.end_s, start_s + span_s) - max(window.start_s, start_s)
        if inside_s < span_s:
            histogram = share_durations(histogram, inside_s / span_s)
        for bucket, count in histogram.items():
            counts[bucket] += count
    return {bucket: count for bucket, count in enumerate(counts) if count}


def share_durations(histogram: Mapping[int, int], share: float) -> Histogram:
    """A share of the durations, at least one of each bucket, so that rare ones stay."""
    return {bucket: max(1, round(count * share)) for bucket, count in histogram.items()}
