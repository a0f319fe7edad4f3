"""How many jobs a batch has: as many as Redis can process without making others wait, within the rate limit."""

from __future__ import annotations

from ...backends.actions import MAX_BATCH
from ...sources.metering import Meter
from .operation import BulkOperation, BulkPhase

# Batches below LEAST_BATCH save Redis nothing: senders split large commands themselves, and the rest of the cost of a
# batch, such as the scan of a queue without an index, does not depend on its number of jobs.
FIRST_BATCH, LEAST_BATCH = 25, 20
# Target for how long a batch blocks Redis at a time: other clients must not wait 5 ms.
AIM_S = 0.002
# A batch that takes longer in total reports progress too rarely, and repeats too much when its process dies.
LONGEST_S = 0.1
SECONDS_PER_BATCH = 0.25


def batch_size(operation: BulkOperation, batch_limit: int) -> int:
    """The number of jobs of the next batch, at most `batch_limit`; 0 or less when its phase has no jobs left."""
    end = operation.request.canary if operation.phase is BulkPhase.CANARY else operation.matched
    size = min(batch_limit, end - operation.processed, MAX_BATCH)
    pace = operation.request.pace_per_s
    return min(size, max(1, round(pace * SECONDS_PER_BATCH))) if pace > 0 else size


def adapt_batch_limit(batch_limit: int, size: int, cost: Meter) -> int:
    """The limit of the next batch, after one of `size` jobs had this cost.

    Fewer immediately if Redis was blocked for too long, up to twice as many if it was not: apart from its fixed part,
    the cost of a batch grows with its jobs.
    """
    share = max(cost.held_s / AIM_S, cost.busy_s / LONGEST_S, 1e-6)
    fitting = int(size / share)
    if share > 1:
        return max(LEAST_BATCH, min(batch_limit, fitting))
    if size < batch_limit:
        return batch_limit
    return max(batch_limit, min(MAX_BATCH, 2 * batch_limit, fitting))
