"""How many jobs of a record were good, as an objective defines it. Pure: no Redis, no clock."""

from __future__ import annotations

import math

from ..history.columns import QUEUE, Cells
from ..history.histogram import BUCKET_RATIO, SHORTEST_S, Histogram
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


def count_good_jobs(slo: SloSettings, cells: Cells) -> JobCounts | None:
    """The jobs in a record of a queue; None if nothing is known of them, also if none finished."""
    if slo.succeeded:
        finished, failed = cells[_FINISHED], cells[_FAILED]
        if not isinstance(finished, int) or not isinstance(failed, int) or finished <= 0:
            return None
        return JobCounts(total=finished, good=max(0, finished - failed))
    limit_s, place = (
        (slo.waited_within_s, _WAITS) if slo.waited_within_s is not None else (slo.ran_within_s, _RUN_TIMES)
    )
    durations = cells[place]
    if limit_s is None or not isinstance(durations, dict) or not durations:
        return None
    return JobCounts(total=sum(durations.values()), good=count_within(durations, limit_s))


def lacks_measure(cells: Cells) -> bool:
    """Whether jobs finished in a record, or it is unknown whether any did: of a record without good jobs, whether the
    library does not report what the objective needs."""
    return cells[_QUALITY] is not None and cells[_FINISHED] != 0


def count_within(durations: Histogram, limit_s: float) -> float:
    """How many durations are no longer than a limit. Of the bucket in which the limit lies, the part below it counts, as
    if its durations were spread evenly (on a logarithmic scale): the buckets are 10% wide."""
    place = math.log(limit_s / SHORTEST_S) / math.log(BUCKET_RATIO)
    last = max(0, math.floor(place + 1e-9))  # the last bucket that ends at or before the limit
    within = sum(count for bucket, count in durations.items() if bucket <= last)
    return within + durations.get(last + 1, 0) * max(0.0, min(1.0, place - last))
