"""The rates of many queues together. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from ..model import QueueStats, SourceStats


@dataclass(frozen=True, slots=True)
class TotalRates:
    """Total rates of many queues; None if no queue reports them.

    `throughput_unknown`, `failed_unknown`: the number of queues missing from the sums of finished and of failed jobs.
    """

    throughput_per_min: float | None
    failed_per_min: float | None
    error_ratio: float | None
    throughput_unknown: int = 0
    failed_unknown: int = 0


def total_rates(queues: Iterable[QueueStats], sources: Iterable[SourceStats] = ()) -> TotalRates:
    """The sums of the known rates; the ratio covers the queues that report both finished and failed jobs."""
    queues, sources = list(queues), list(sources)
    finished = [queue.throughput_per_min for queue in queues] + [source.together_per_min for source in sources]
    known = [value for value in finished if value is not None]
    failed = [queue.failed_per_min for queue in queues if queue.failed_per_min is not None]
    both = [queue for queue in queues if queue.failed_per_min is not None and queue.throughput_per_min is not None]
    of_both = sum([queue.throughput_per_min or 0.0 for queue in both])
    together = {source.name for source in sources if source.together_per_min is not None}
    return TotalRates(
        throughput_per_min=sum(known) if known else None,
        failed_per_min=sum(failed) if failed else None,
        error_ratio=sum([queue.failed_per_min or 0.0 for queue in both]) / of_both if of_both else None,
        throughput_unknown=_count_unknown(queues, attrgetter("throughput_per_min"), together),
        failed_unknown=_count_unknown(queues, attrgetter("failed_per_min"), ()),
    )


def _count_unknown(
    queues: Sequence[QueueStats], figure: Callable[[QueueStats], float | None], together: Container[str]
) -> int:
    """How many queues lack a figure that no shared entry reports; `together` = sources that report it."""
    if None not in map(figure, queues):
        return 0
    shared: dict[tuple[str, str, str | None], list[QueueStats]] = {}
    alone: dict[tuple[str, str, str | None], list[QueueStats]] = {}
    for queue in queues:
        (shared if queue.shared else alone).setdefault((queue.source, queue.backend, queue.prefix), []).append(queue)
    count = 0
    for where in shared.keys() | alone.keys():
        reported = where[0] in together or any(figure(queue) is not None for queue in shared.get(where, ()))
        count += 0 if reported else sum(figure(queue) is None for queue in alone.get(where) or shared[where])
    return count
