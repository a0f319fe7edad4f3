"""How many jobs of a record were good, as an objective defines it. Pure: no Redis, no clock."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from functools import lru_cache

from ..history.columns import QUEUE, Cells, Record
from ..history.histogram import BUCKET_RATIO, LAST_BUCKET, SHORTEST_S, Histogram
from ..history.slots import StoredSeries
from ..model import Value
from ..settings import SloSettings

_QUALITY, _FINISHED, _FAILED, _RUN_TIMES, _WAITS = (
    QUEUE.index_of(name) for name in ("quality", "finished", "failed", "runtimes", "waits")
)


class JobCounts(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """Jobs of which it is known whether they were good, and how many of them were. Fractions come from a limit within a
    bucket of durations."""

    total: float = 0.0
    good: float = 0.0

    @property
    def bad(self) -> float:
        """How many were not."""
        return max(0.0, self.total - self.good)


def count_good_jobs(slo: SloSettings, cells: Cells, finished: int | None) -> JobCounts | None:
    """The jobs in a record of a queue; None if nothing is known of them, also if none finished.

    `finished`: how many finished in the time that its durations cover. These stand for all of them.
    """
    if slo.succeeded:
        failed = cells[_FAILED]
        if not isinstance(failed, int) or not finished:
            return None
        return JobCounts(total=finished, good=max(0, finished - failed))
    limit_s, place = (
        (slo.waited_within_s, _WAITS) if slo.waited_within_s is not None else (slo.ran_within_s, _RUN_TIMES)
    )
    durations = cells[place]
    if limit_s is None or not isinstance(durations, dict) or not durations:
        return None
    known = sum(durations.values())
    if known <= 0:
        return None
    total = finished or known
    return JobCounts(total=total, good=count_within(durations, limit_s) * total / known)


def finished_of(cells: Cells) -> int | None:
    """How many jobs finished in a record; None where it is unknown."""
    finished = cells[_FINISHED]
    return finished if isinstance(finished, int) else None


def lacks_measure(cells: Cells) -> bool:
    """Whether jobs finished in a record, or it is unknown whether any did: of a record without good jobs, whether the
    library does not report what the objective needs."""
    return cells[_QUALITY] is not None and cells[_FINISHED] != 0


def count_within(durations: Histogram, limit_s: float) -> float:
    """How many durations are no longer than a limit. Of the bucket in which the limit lies, which is 10% wide, the part
    below it counts, as if its durations were spread evenly on a logarithmic scale."""
    shares = _shares_within(limit_s)
    return math.fsum(map(operator.mul, map(shares.__getitem__, durations), durations.values()))


@lru_cache(maxsize=100)
def _shares_within(limit_s: float) -> tuple[float, ...]:
    """For each bucket, the share of its durations that counts as no longer than a limit."""
    place = math.log(limit_s / SHORTEST_S) / math.log(BUCKET_RATIO)  # bucket b lies between b - 1 and b
    return tuple(min(1.0, max(0.0, place - bucket + 1)) for bucket in range(LAST_BUCKET + 1))


def covered_records(
    stored: StoredSeries, slo: SloSettings, start_s: int, end_s: int
) -> Iterator[tuple[Record, int, int | None]]:
    """The records of a stored series within a time, each with the seconds that its jobs cover, and how many finished.

    Where room is short, durations are stored for several records in the first of them.
    """
    records, spans_s = stored
    for place, record in enumerate(records):
        if not start_s <= record.start_s < end_s:
            continue
        finished, span_s = finished_of(record.cells), spans_s[place]
        if slo.succeeded:
            span_s = 1  # these numbers are stored for each record
        elif _has_durations(slo, record.cells):
            finished = _sum_finished(records, slo, place, record.start_s + span_s)
        yield record, span_s, finished


def _has_durations(slo: SloSettings, cells: Cells) -> bool:
    return bool(cells[_RUN_TIMES if slo.waited_within_s is None else _WAITS])


def _sum_finished(records: Sequence[Record], slo: SloSettings, place: int, end_s: int) -> int | None:
    """The finished jobs of a record and those after it until `end_s` that have no durations of their own."""
    found = finished_of(records[place].cells)
    for later in range(place + 1, len(records)):
        start_s, cells = records[later]
        if found is None or start_s >= end_s or _has_durations(slo, cells):
            break
        found += finished_of(cells) or 0
    return found
