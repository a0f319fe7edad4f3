"""Bulk operations on jobs of the real libraries survive a killed process: no job is lost or processed twice.

SIGKILL arrives at a random moment; test_bulk_steps.py ends the process at every step.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from dashboard.actions.bulk.operation import BulkPhase
from dashboard.actions.bulk.undo import undo_batch_of
from dashboard.backends.actions import Action, Outcome
from dashboard.demo.embedded import EmbeddedRedis, die_with_parent
from tests.actions.conftest import expire_lease
from tests.bench.bulk import LIBRARIES, QUEUE, Parts
from tests.processes import ROOT
from tests.waiting import wait_until

JOBS = 3_000

RUNS = """
import sys, time
from tests.actions.conftest import expire_lease
from tests.bench.bulk import Parts
with Parts(sys.argv[1], sys.argv[2]) as parts:
    # It never reaches the end, however late it is killed.
    while parts.bulk_store.get(sys.argv[3]).processed < 1_500:
        time.sleep(parts.runner("killed").run_turn())
    time.sleep(600)
"""
# The ids of the waiting jobs of each library.
WAITING: dict[str, Callable[[redis.Redis], list[str]]] = {
    "bullmq": lambda client: [raw.decode() for raw in client.lrange(f"bull:{QUEUE}:wait", 0, -1)],
    "sidekiq": lambda client: [json.loads(raw)["jid"] for raw in client.lrange(f"queue:{QUEUE}", 0, -1)],
    "rq": lambda client: [raw.decode() for raw in client.lrange(f"rq:queue:{QUEUE}", 0, -1)],
    "celery": lambda client: [json.loads(raw)["headers"]["id"] for raw in client.lrange(QUEUE, 0, -1)],
}
DEAD = {"bullmq": f"bull:{QUEUE}:failed", "sidekiq": "dead", "rq": f"rq:failed:{QUEUE}"}


def read_library_keys(client: redis.Redis) -> dict[bytes, Any]:
    """The content of all keys of the library, except event streams and the set of queue names."""
    others = (b"{queuedeck}", b"rq:queues")
    keys = [key for key in client.scan_iter(count=1000) if not key.startswith(others) and not key.endswith(b":events")]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        for key, kind in zip(keys, pipe.execute(), strict=True):
            # The dump of a hash depends on the order of its fields; a hash has none.
            pipe.hgetall(key) if kind == b"hash" else pipe.dump(key)
        return dict(zip(keys, pipe.execute(), strict=True))


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A separate Redis: another process uses it."""
    with EmbeddedRedis() as found:
        yield found


def kill_and_finish(url: str, library: str, parts: Parts, bulk_id: str) -> None:
    """Start the operation in a process that is killed halfway; finish it in this process."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, url, library, bulk_id], cwd=ROOT, preexec_fn=die_with_parent()
    )
    try:
        wait_until(lambda: parts.bulk_store.get(bulk_id).processed > 200, what="the first batches")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert parts.bulk_store.get(bulk_id).processed < JOBS
    with redis.Redis.from_url(url) as client:
        expire_lease(client, bulk_id)
    runner = parts.runner("here")
    runner.start()
    try:
        wait_until(lambda: parts.bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="the other process's end of it")
    finally:
        runner.stop()


@pytest.mark.soak
@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
@pytest.mark.parametrize("library", LIBRARIES)
def test_no_job_is_lost_or_processed_twice_when_the_process_is_killed(
    server: EmbeddedRedis, library: str, action: Action
) -> None:
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        LIBRARIES[library][0](client, JOBS)
        before = read_library_keys(client)
        bulk_id = parts.bulk_store.create(parts.request(action, pace_per_s=2_500))
        kill_and_finish(server.url, library, parts, bulk_id)
        operation = parts.bulk_store.get(bulk_id)
        assert operation.processed == JOBS
        if action is Action.RETRY:
            # Jobs of the last batch that the killed process did not record are reported as done by another process.
            assert JOBS - operation.done <= 1_000
            waiting = WAITING[library](client)
            assert len(waiting) == len(set(waiting)) == JOBS
            if library in DEAD:
                assert client.zcard(DEAD[library]) == 0
            return
        assert operation.outcomes == {"done": JOBS}
        assert len(read_library_keys(client)) < 10
        back = parts.actions.restore_batch(
            operation.request.actor, undo_batch_of(operation.id, operation.request.job_lists[0], operation.request)
        )
        assert back.count(Outcome.DONE) == JOBS
        assert read_library_keys(client) == before
