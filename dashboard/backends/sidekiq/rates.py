"""What finished between two samples: Sidekiq counts attempts, for all queues together, once per heartbeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...clock import monotonic_s
from ...model import FlowDelta, Quality, QueueFlow, QueueRef
from ...sources.source import Source
from . import keys

ATTEMPTS = "Sidekiq counts attempts, including retries, and updates its counters once per heartbeat (5 to 10 s)"
FIRST = "Sidekiq stores only running totals; rates are available from the second sample on"
TOGETHER = "Sidekiq counts all queues together; see the entry for all queues"
RESET = "the counters were reset since the last sample"


class CounterCursor(NamedTuple):
    """The counters of a namespace at one sample."""

    processed: int
    failed: int
    at: float  # monotonic


def read_flow(
    source: Source, refs: Sequence[QueueRef], cursor: Mapping[str, CounterCursor]
) -> tuple[FlowDelta, dict[str, CounterCursor]]:
    """The flow of the shared entries of `refs` since `cursor`; for single queues it is unknown. Cost: 1 round trip."""
    spaces = sorted({keys.location_of(ref).namespace for ref in refs})
    counters = [f"{space}{name}" for space in spaces for name in ("stat:processed", "stat:failed")]
    replies = source.run_batch([("GETRANGE", key, 0, 19) for key in counters])
    now = monotonic_s()
    looks: dict[str, CounterCursor] = {}
    for space, *pair in zip(spaces, replies[::2], replies[1::2], strict=True):
        if all(isinstance(raw, bytes) for raw in pair):
            processed, failed = (int(raw) if raw.isdigit() and len(raw) < 19 else 0 for raw in pair)
            looks[space] = CounterCursor(processed, failed, now)
    flows = []
    for ref in refs:
        place = keys.location_of(ref)
        flows.append(
            _build_flow(ref.key, looks.get(place.namespace), cursor.get(place.namespace))
            if ref.shared
            else QueueFlow.unknown(ref.key, TOGETHER)
        )
    return FlowDelta(queues=tuple(flows)), looks


def _build_flow(key: str, cursor: CounterCursor | None, before: CounterCursor | None) -> QueueFlow:
    if cursor is None or before is None:
        return QueueFlow.unknown(key, FIRST)
    processed, failed = cursor.processed - before.processed, cursor.failed - before.failed
    if processed < 0 or failed < 0:
        return QueueFlow.unknown(key, RESET)
    return QueueFlow(
        key=key,
        completed=max(0, processed - failed),
        dead=failed,
        span_s=max(cursor.at - before.at, 0.001),
        quality=Quality.ESTIMATED,
        reason=ATTEMPTS,
    )
