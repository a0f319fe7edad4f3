"""Run times of a sample of the newest finished jobs, from their hashes."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ...base import FLOW_WINDOW_S
from ..job_hashes import FieldSelection, JobHashReader
from ..serialization import parse_time
from .findings import TTL_FIELDS, FlowFindings

# The maximum clock difference of a worker.
SKEW_S = 30
# Run times are read for at most this many jobs per sample, for all queues together, and per queue and state.
SAMPLE_TOTAL = 200
SAMPLE_QUEUE = 20
TIMES = FieldSelection(small=("started_at", "ended_at", "retries_left", *TTL_FIELDS.values()), limit_bytes=64)


def ids_to_read(queues: int, busy: int) -> tuple[bool, int]:
    """Return whether the newest jobs of all `queues` are read or only of those `busy`, and how many of each."""
    every = queues <= SAMPLE_TOTAL // (2 * SAMPLE_QUEUE)
    return every, min(SAMPLE_QUEUE, max(1, SAMPLE_TOTAL // (2 * max(1, queues if every else busy))))


def sample_run_times(reader: JobHashReader, found: Sequence[FlowFindings], now: float) -> None:
    """Read run times of the newest jobs into `found`. Cost: 1 round trip, none if no job finished."""
    wanted = [(answer, job_id) for answer in found for job_id in answer.ids]
    if not wanted:
        return
    if len(wanted) > SAMPLE_TOTAL:  # start at a random position, so that every queue is sampled over time
        start = random.randrange(len(wanted))  # noqa: S311 - not used for security
        wanted = [*wanted[start:], *wanted[:start]][:SAMPLE_TOTAL]
    records, _ = reader.read_hashes([(answer.queue, job_id) for answer, job_id in wanted], TIMES)
    newest: dict[str, float] = {}
    for (answer, _), record in zip(wanted, records, strict=True):
        answer.retries = answer.retries or record.text("retries_left") is not None
        answer.note_ttls({state: record.text(name) for state, name in TTL_FIELDS.items()})
        started, ended = parse_time(record.text("started_at")), parse_time(record.text("ended_at"))
        if started is None or ended is None or ended < started:
            continue
        at = ended.timestamp()
        if at > max(answer.newest, now - FLOW_WINDOW_S - SKEW_S):
            answer.runtimes.append((ended - started).total_seconds())
            key = answer.queue.queue
            newest[key] = max(at, newest.get(key, 0.0))
    for answer in found:
        answer.newest = newest.get(answer.queue.queue, answer.newest)
