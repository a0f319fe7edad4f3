"""Durations in logarithmic buckets, which can be added up over any time and any queues. Pure: no Redis, no clock.

Percentiles cannot be averaged, but buckets can be added: the median of a day comes from the sums of its minutes. Each
bucket is 10% wide, so a percentile is at most 5% away from the duration at that rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

BUCKET_RATIO = 1.1
# Bucket 0 holds all durations up to this one; the last bucket holds all over 41 days.
SHORTEST_S = 1e-4
LAST_BUCKET = 255
_LOG_RATIO = math.log(BUCKET_RATIO)

# The number of durations by bucket; only buckets that hold any.
Histogram = dict[int, int]


def bucket_of(duration_s: float) -> int:
    """The bucket of a duration. Its bounds are SHORTEST_S * BUCKET_RATIO ** (bucket - 1), exclusive, and the same with
    `bucket`, inclusive."""
    if not duration_s > SHORTEST_S:  # also NaN
        return 0
    if duration_s == math.inf:
        return LAST_BUCKET
    # Rounding: an exact bound must not fall into the next bucket.
    return min(LAST_BUCKET, math.ceil(math.log(duration_s / SHORTEST_S) / _LOG_RATIO - 1e-9))


def duration_of(bucket: int) -> float:
    """The duration in seconds that stands for a bucket: the geometric middle of its bounds."""
    return float(SHORTEST_S * BUCKET_RATIO ** (bucket - 0.5))


def add_durations(histogram: Histogram, durations_s: Iterable[float], weight: int = 1) -> None:
    """Add durations, each of which stands for `weight` jobs."""
    for duration_s in durations_s:
        bucket = bucket_of(duration_s)
        histogram[bucket] = histogram.get(bucket, 0) + weight


def histogram_of_jobs(durations_s: Sequence[float], jobs: int) -> Histogram:
    """The durations of some of `jobs` as those of all, so that the counts add up to `jobs`; at least one of each."""
    found: Histogram = {}
    known = len(durations_s)
    jobs = max(jobs, known)
    for place, duration_s in enumerate(durations_s):
        bucket = bucket_of(duration_s)
        # What is left over by the division is spread evenly.
        stands_for = (place + 1) * jobs // known - place * jobs // known
        found[bucket] = found.get(bucket, 0) + stands_for
    return found


def add_histogram(histogram: Histogram, other: Histogram) -> None:
    """Add the counts of `other`."""
    for bucket, count in other.items():
        histogram[bucket] = histogram.get(bucket, 0) + count


def percentiles(histogram: Histogram, shares: Iterable[float]) -> list[float | None]:
    """The durations in seconds at these shares (0 to 1, in any order), by nearest rank; None for an empty histogram."""
    ordered = sorted(histogram.items())
    total = sum(histogram.values())
    return [_at_rank(ordered, min(total - 1, int(share * total))) for share in shares]


def _at_rank(ordered: list[tuple[int, int]], rank: int) -> float | None:
    for bucket, count in ordered:
        rank -= count
        if rank < 0:
            return duration_of(bucket)
    return None
