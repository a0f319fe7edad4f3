"""Classes, run times and waits of a sample of the newest finished jobs, from their hashes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ....model import State
from ...base import FLOW_WINDOW_S
from ...class_tally import ClassTally
from ..job_hashes import FieldSelection, JobHash, JobHashReader
from ..serialization import call_parts, parse_time
from .findings import TTL_FIELDS, TTLS_S, FlowFindings

# The maximum clock difference of a worker.
SKEW_S = 30
# At most this many jobs are read per sample, for all queues together, and per queue and state.
SAMPLE_TOTAL = 500
SAMPLE_QUEUE = 100
SAMPLE_LEAST = 4
FEW_QUEUES = 5
TIMES = ("enqueued_at", "started_at", "ended_at", "retries_left", *TTL_FIELDS.values())
READ = FieldSelection(small=TIMES, wide=("description",), limit_bytes=2048)


def ids_to_read(queues: int, busy: int) -> tuple[bool, int]:
    """Return whether the newest jobs of all `queues` are read or only of those `busy`, and how many of each."""
    every = queues <= FEW_QUEUES
    return every, min(SAMPLE_QUEUE, max(SAMPLE_LEAST, SAMPLE_TOTAL // max(1, queues if every else busy)))


class _Sampled(NamedTuple):
    """A finished job that was looked at."""

    record: JobHash
    started: datetime | None
    ended_at: float  # 0.0 if unknown


def sample_jobs(reader: JobHashReader, found: Sequence[FlowFindings], now: float) -> None:
    """Read classes and times of the newest jobs into `found`. Cost: 1 round trip, none if no job finished."""
    wanted = [(answer, state, job_id) for answer in found for state, job_id in answer.ids]
    if not wanted:
        return
    if len(wanted) > SAMPLE_TOTAL:  # start at a random position, so that every queue is sampled over time
        start = random.randrange(len(wanted))  # noqa: S311 - not used for security
        wanted = [*wanted[start:], *wanted[:start]][:SAMPLE_TOTAL]
    records, _ = reader.read_hashes([(answer.queue, job_id) for answer, _, job_id in wanted], READ)
    groups: dict[tuple[str, State], list[_Sampled]] = {}
    for (answer, state, _), record in zip(wanted, records, strict=True):
        started, ended = parse_time(record.text("started_at")), parse_time(record.text("ended_at"))
        sampled = _Sampled(record, started, ended.timestamp() if ended else 0.0)
        groups.setdefault((answer.queue.queue, state), []).append(sampled)
    for answer in found:
        newest = answer.newest
        of_state = {state: groups.get((answer.queue.queue, state), []) for state in TTLS_S}
        shares = timed_shares({state: (len(jobs), answer.came[state]) for state, jobs in of_state.items()})
        for state, jobs in of_state.items():
            jobs.sort(key=lambda sampled: -sampled.ended_at)
            for place, sampled in enumerate(jobs[: answer.came[state]]):
                is_timed = int((place + 1) * shares[state]) > int(place * shares[state])
                newest = max(newest, _add_job(answer, state, sampled, now, is_timed=is_timed))
        answer.newest = newest


def timed_shares(looked: Mapping[State, tuple[int, int]]) -> dict[State, float]:
    """The share of the jobs of each state whose run times count. `looked`: how many were looked at, of how many.

    Of rare states, a larger part is looked at: percentiles would otherwise be those of failed jobs.
    """
    parts = {state: min(1.0, jobs / came) if jobs and came else 1.0 for state, (jobs, came) in looked.items()}
    return {state: min(parts.values()) / part for state, part in parts.items()}


def _add_job(answer: FlowFindings, state: State, sampled: _Sampled, now: float, *, is_timed: bool) -> float:
    """Add a job to what was found in its queue, with its run time if `is_timed`; when it finished, if that is
    plausible, else 0.0."""
    record, started, ended_at = sampled
    answer.retries = answer.retries or record.text("retries_left") is not None
    answer.note_ttls({each: record.text(name) for each, name in TTL_FIELDS.items()})
    tally = answer.classes = answer.classes or ClassTally()
    if record.kind != "hash":
        tally.add_unknown()
        return 0.0
    runtime_s = ended_at - started.timestamp() if started and ended_at else -1.0
    name = call_parts(record.text("description"))[0] or ""
    tally.add(name, state is State.COMPLETED, state is State.DEAD, [runtime_s] if is_timed and runtime_s >= 0 else [])
    if started is None or runtime_s < 0 or ended_at <= max(answer.newest, now - FLOW_WINDOW_S - SKEW_S):
        return 0.0
    if is_timed:
        answer.runtimes.append(runtime_s)
    enqueued = parse_time(record.text("enqueued_at"))
    if enqueued is not None and started >= enqueued:
        answer.waits.append((started - enqueued).total_seconds())
    return ended_at
