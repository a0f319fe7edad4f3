"""The running jobs of many queues, and the workers that run them: the lock of each job names its worker."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from redis.exceptions import NoPermissionError

from ...model import QueueRef, Work
from ...sources.source import Argument, Command, Reply, Source, text
from ..lua_reads import Scripts
from ..payloads.decoding import printable
from ..unreadable_data import decode_or
from . import keys, without_lua
from .job_decoding import JobFields
from .stats import QUEUES_PER_CALL

# The maximum number of jobs to read per queue, and in total (but at least one per queue).
PER_QUEUE = 100
IN_ALL = 5000
SHORT_BYTES = 500
NAMES = ("name", "pb", "processedOn")
# A worker's UUID, and a number for each job it picked up.
_TOKEN = re.compile(r"(.+):\d+\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RunningJob:
    """One running job. `holder` = the worker that holds its lock; None if there is no lock (any more)."""

    work: Work
    worker: str | None  # the name of the worker, if it has one
    holder: str | None


@dataclass(frozen=True, slots=True)
class ActiveJobs:
    """The running jobs of one queue: `total` of them, of which the longest running were read."""

    total: int
    jobs: tuple[RunningJob, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all running jobs were read."""
        return len(self.jobs) >= self.total


def read_active_jobs(source: Source, scripts: Scripts, refs: Sequence[QueueRef]) -> tuple[list[ActiveJobs], Reply]:
    """Return (the running jobs of each queue, in the order of `refs`; the reply to CLIENT LIST).

    Cost: 1 round trip if scripts are permitted, else 3.
    """
    clients: Command = ("CLIENT", "LIST")
    chunks = scripts.split(refs, QUEUES_PER_CALL, keys.queue_key)
    calls: list[list[Argument]] = [
        [IN_ALL * len(chunk) // len(refs), PER_QUEUE, *(ref.key for ref in chunk)] for chunk in chunks
    ]
    at = [chunk[0].key for chunk in chunks]
    answered = scripts.run(keys.load_script("workers"), calls, also=[clients], at=at)
    if answered is None:
        return _read_without_lua(source, refs, clients)
    found: list[ActiveJobs] = []
    for chunk, reply in zip(chunks, answered[0], strict=True):
        if isinstance(reply, NoPermissionError):
            raise source.forbidden_error(reply)
        rows = reply if isinstance(reply, list) else [[reply]] * len(chunk)
        found += [_parse_active_jobs(ref, row) for ref, row in zip(chunk, rows, strict=True)]
    return found, answered[1][0]


def _read_without_lua(source: Source, refs: Sequence[QueueRef], clients: Command) -> tuple[list[ActiveJobs], Reply]:
    each = max(1, min(PER_QUEUE, IN_ALL // max(1, len(refs))))
    commands: list[Command] = [("LLEN", f"{ref.key}:active") for ref in refs]
    commands += [("LRANGE", f"{ref.key}:active", -each, -1) for ref in refs]
    *replies, listed = source.run_batch([*commands, clients])
    totals, ids = replies[: len(refs)], replies[len(refs) :]
    found = [(n, job_id) for n, some in enumerate(ids) if isinstance(some, list) for job_id in reversed(some)]
    hashes = [f"{refs[n].key}:".encode("utf-8", "surrogateescape") + job_id for n, job_id in found]
    locks: list[Command] = [("GETRANGE", key + b":lock", 0, SHORT_BYTES - 1) for key in hashes]
    values, tokens = without_lua.read_fields(source, hashes, dict.fromkeys(NAMES, SHORT_BYTES), locks)
    rows: list[list[Reply]] = [[total] for total in totals]
    for (n, job_id), row, token in zip(found, values, tokens, strict=True):
        rows[n].append([job_id, row, token or None])
    return [_parse_active_jobs(ref, row) for ref, row in zip(refs, rows, strict=True)], listed


def _parse_active_jobs(ref: QueueRef, row: Sequence[Reply]) -> ActiveJobs:
    total, *jobs = row
    if not isinstance(total, int):
        return ActiveJobs(total=0)
    return ActiveJobs(
        total=total,
        jobs=tuple(
            decode_or(partial(_parse_running_job, ref, *job), partial(_job_with_problem, ref, job)) for job in jobs
        ),
    )


def _job_with_problem(ref: QueueRef, job: Sequence[Reply], why: str) -> RunningJob:
    """Return a running job with only its id."""
    del why
    job_id = job[0] if job and isinstance(job[0], bytes) else b""
    return RunningJob(work=Work(job_id=text(job_id), queue=ref.name, ref=ref), worker=None, holder=None)


def _parse_running_job(ref: QueueRef, job_id: bytes, values: Reply, token: Reply) -> RunningJob:
    known = values if isinstance(values, list) else [None] * len(NAMES)
    fields = JobFields(dict(zip(NAMES, known, strict=True)))
    work = Work(
        job_id=text(job_id),
        job_name=fields.text("name", 200),
        queue=ref.name,
        ref=ref,
        started_at=fields.instant("processedOn"),
    )
    return RunningJob(work=work, worker=fields.text("pb", 200), holder=_holder_of_lock(token))


def _holder_of_lock(token: Reply) -> str | None:
    if token is None:
        return None
    raw = printable(token, 200) if isinstance(token, bytes) else ""
    match = _TOKEN.match(raw)
    return match[1] if match else raw or "?"


def oldest_first(jobs: Sequence[RunningJob]) -> tuple[Work, ...]:
    """Return the Work of each job, longest running first, at most PER_QUEUE."""
    works = [job.work for job in jobs]
    works.sort(key=lambda work: work.started_at.timestamp() if work.started_at else math.inf)
    return tuple(works[:PER_QUEUE])
