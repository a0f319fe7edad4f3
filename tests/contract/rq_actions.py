"""What the tests of acts on RQ share: the real worker in a process of its own, and comparing key spaces."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from rq import Queue
from rq.registry import FailedJobRegistry

from dashboard.backends.actions import ActionResult, JobBackup, JobRef
from dashboard.backends.rq.backend import RQ
from dashboard.model import JobQuery, QueueRef, State
from tests.contract.rq_library import run_waiting_jobs
from tests.processes import child
from tests.workloads import rq_jobs

REF = QueueRef(source="main", backend="rq", name="alpha", key="rq:queue:alpha")
BETA = QueueRef(source="main", backend="rq", name="beta", key="rq:queue:beta")


@contextmanager
def running_rq_worker(url: str, kind: str, *queues: str) -> Iterator[str]:
    """The name of a real worker that serves `queues`, in a process of its own, ended afterwards."""
    command = [sys.executable, "-m", "tests.workloads.rq_worker", url, kind, *queues]
    with child(command, name="rq-worker", pipes=True, gently=False) as process:
        word, name = process.read_line().split()
        assert word == "ready"
        yield name


def add_dead_jobs(queue: Queue, count: int) -> list[str]:
    """The ids of jobs that have failed, oldest first."""
    ids = [queue.enqueue(rq_jobs.fail, f"number {n}").id for n in range(count)]
    run_waiting_jobs(queue)
    assert FailedJobRegistry(queue=queue).get_job_count(cleanup=False) >= count
    return ids


def job_refs_of(backend: RQ, state: State, ref: QueueRef = REF) -> list[JobRef]:
    """The first thousand jobs of a state."""
    return backend.list_job_refs(ref, JobQuery(state=state, per_page=1000))


def outcomes(results: Sequence[ActionResult | JobBackup]) -> list[str]:
    """What came of each; `kept` for what was taken."""
    return [each.outcome.value if isinstance(each, ActionResult) else "kept" for each in results]


def backups_of(taken: Sequence[JobBackup | ActionResult]) -> list[JobBackup]:
    """`taken`, of which none was refused."""
    assert all(isinstance(each, JobBackup) for each in taken), taken
    return [each for each in taken if isinstance(each, JobBackup)]


def read_keyspace(client: redis.Redis) -> dict[bytes, tuple[Any, bool]]:
    """What each key of RQ holds, and whether it expires: as DUMP tells it, but for sets and hashes, unordered ones."""
    read: dict[bytes, Any] = {b"set": client.smembers, b"hash": client.hgetall}
    keys = [key for key in client.scan_iter(count=1000) if not key.startswith(b"{queuedeck}")]
    return {key: (read.get(client.type(key), client.dump)(key), client.pttl(key) > 0) for key in keys}
