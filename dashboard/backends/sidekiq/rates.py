"""What finished between two samples: Sidekiq counts attempts, for all queues together, once per heartbeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from ...clock import monotonic_s
from ...model import ClassFlow, FlowDelta, Quality, QueueFlow, QueueRef
from ...sources.source import Source
from . import keys
from .job_class_metrics import (
    TIMES_READ,
    MinuteCounts,
    add_times,
    attempts_since,
    class_flows,
    minute_commands,
    newest_minutes,
    parse_minutes,
    times_commands,
)

ATTEMPTS = "Sidekiq counts attempts, including retries, and updates its counters once per heartbeat (5 to 10 s)"
FIRST = "Sidekiq stores only running totals; rates are available from the second sample on"
TOGETHER = "Sidekiq counts all queues together; see the entry for all queues"
RESET = "the counters were reset since the last sample"


NO_METRICS = "Sidekiq stores figures of job classes from version 7 on, where its metrics are enabled"


class CounterCursor(NamedTuple):
    """The counters of a namespace at one sample."""

    processed: int
    failed: int
    at: float  # monotonic
    minutes: MinuteCounts = MinuteCounts()


def read_flow(
    source: Source, refs: Sequence[QueueRef], cursor: Mapping[str, CounterCursor]
) -> tuple[FlowDelta, dict[str, CounterCursor]]:
    """The flow of the shared entries of `refs` since `cursor`; for single queues it is unknown.

    Cost: 1 round trip, and 1 more in samples that find new run times of classes.
    """
    spaces = sorted({keys.location_of(ref).namespace for ref in refs})
    none = CounterCursor(0, 0, 0.0)
    now_s = source.now_s()
    minutes = {space: newest_minutes(now_s, cursor.get(space, none).minutes) for space in spaces}
    replies = iter(
        source.run_batch(
            [
                command
                for space in spaces
                for command in (
                    ("GETRANGE", f"{space}stat:processed", 0, 19),
                    ("GETRANGE", f"{space}stat:failed", 0, 19),
                    *minute_commands(space, minutes[space]),
                )
            ]
        )
    )
    now = monotonic_s()
    looks: dict[str, CounterCursor] = {}
    for space in spaces:
        processed, failed, *found = islice(replies, 2 + len(minutes[space]))
        if isinstance(processed, bytes) and isinstance(failed, bytes):
            before = cursor.get(space, none).minutes
            counts = parse_minutes(minutes[space], found, before)
            looks[space] = CounterCursor(_parse_counter(processed), _parse_counter(failed), now, counts)
    classes = _read_classes(source, looks, cursor)
    flows = []
    for ref in refs:
        space = keys.location_of(ref).namespace
        flows.append(
            _build_flow(ref.key, looks.get(space), cursor.get(space), classes.get(space, ()))
            if ref.shared
            else QueueFlow.unknown(ref.key, TOGETHER)
        )
    return FlowDelta(queues=tuple(flows)), looks


def _read_classes(
    source: Source, looks: dict[str, CounterCursor], cursor: Mapping[str, CounterCursor]
) -> dict[str, tuple[ClassFlow, ...]]:
    """Return the flows of the classes by namespace, and add the run times that were read to `looks`."""
    attempts = {
        space: attempts_since(look.minutes, cursor[space].minutes) for space, look in looks.items() if space in cursor
    }
    # Only successful attempts have a run time.
    wanted = {
        space: [key for key, (runs, failed) in found.items() if runs > failed][:TIMES_READ]
        for space, found in attempts.items()
    }
    commands = [command for space, keys_ in wanted.items() for command in times_commands(space, keys_)]
    replies = iter(source.run_batch(commands) if commands else [])
    flows: dict[str, tuple[ClassFlow, ...]] = {}
    for space, found in attempts.items():
        read = list(islice(replies, len(wanted[space])))
        minutes, times = add_times(looks[space].minutes, cursor[space].minutes, wanted[space], read)
        looks[space] = looks[space]._replace(minutes=minutes)
        flows[space] = class_flows(found, times)
    return flows


def _build_flow(
    key: str, cursor: CounterCursor | None, before: CounterCursor | None, classes: tuple[ClassFlow, ...]
) -> QueueFlow:
    if cursor is None or before is None:
        return QueueFlow.unknown(key, FIRST)
    processed, failed = cursor.processed - before.processed, cursor.failed - before.failed
    if processed < 0 or failed < 0:
        return QueueFlow.unknown(key, RESET)
    has_metrics = bool(cursor.minutes.majors)
    return QueueFlow(
        key=key,
        completed=max(0, processed - failed),
        dead=failed,
        span_s=max(cursor.at - before.at, 0.001),
        quality=Quality.ESTIMATED,
        reason=ATTEMPTS,
        classes=classes if has_metrics else None,
        classes_quality=Quality.ESTIMATED if has_metrics else Quality.UNKNOWN,
        classes_reason=ATTEMPTS if has_metrics else NO_METRICS,
    )


def _parse_counter(raw: bytes) -> int:
    return int(raw) if raw.isdigit() and len(raw) < 19 else 0
