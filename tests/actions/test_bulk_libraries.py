"""Bulk work on the jobs of the real libraries goes on when its process is killed: none is lost, none is done twice.

Killed by SIGKILL at a moment of luck; test_bulk_steps.py ends it at every step.
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
from dashboard.actions.bulk.undo import batch_of
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
    # It never comes to the end, however late it is killed.
    while parts.works.get(sys.argv[3]).at < 1_500:
        time.sleep(parts.runner("killed").run_turn())
    time.sleep(600)
"""
# How a library names its waiting jobs, next to run or not.
WAITING: dict[str, Callable[[redis.Redis], list[str]]] = {
    "bullmq": lambda client: [raw.decode() for raw in client.lrange(f"bull:{QUEUE}:wait", 0, -1)],
    "sidekiq": lambda client: [json.loads(raw)["jid"] for raw in client.lrange(f"queue:{QUEUE}", 0, -1)],
    "rq": lambda client: [raw.decode() for raw in client.lrange(f"rq:queue:{QUEUE}", 0, -1)],
    "celery": lambda client: [json.loads(raw)["headers"]["id"] for raw in client.lrange(QUEUE, 0, -1)],
}
DEAD = {"bullmq": f"bull:{QUEUE}:failed", "sidekiq": "dead", "rq": f"rq:failed:{QUEUE}"}


def picture(client: redis.Redis) -> dict[bytes, Any]:
    """All keys of the library, but the stream of what happened and the names of queues that have had a job."""
    others = (b"{queuedeck}", b"rq:queues")
    keys = [key for key in client.scan_iter(count=1000) if not key.startswith(others) and not key.endswith(b":events")]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        for key, kind in zip(keys, pipe.execute(), strict=True):
            # A hash has no order, which its dump has.
            pipe.hgetall(key) if kind == b"hash" else pipe.dump(key)
        return dict(zip(keys, pipe.execute(), strict=True))


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of its own: another process works on it."""
    with EmbeddedRedis() as found:
        yield found


def killed_half_way(url: str, library: str, parts: Parts, work_id: str) -> None:
    """The work is begun by a process that is killed in the midst of it, and brought to its end by this one."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, url, library, work_id], cwd=ROOT, preexec_fn=die_with_parent()
    )
    try:
        wait_until(lambda: parts.works.get(work_id).at > 200, what="the first batches")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert parts.works.get(work_id).at < JOBS
    with redis.Redis.from_url(url) as client:
        expire_lease(client, work_id)
    runner = parts.runner("here")
    runner.start()
    try:
        wait_until(lambda: parts.works.get(work_id).phase is BulkPhase.DONE, what="the other process's end of it")
    finally:
        runner.stop()


@pytest.mark.soak
@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_is_lost_or_done_twice_when_the_process_is_killed(
    server: EmbeddedRedis, library: str, action: Action
) -> None:
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        LIBRARIES[library][0](client, JOBS)
        before = picture(client)
        work_id = parts.works.create(parts.spec(action, pace_per_s=2_500))
        killed_half_way(server.url, library, parts, work_id)
        operation = parts.works.get(work_id)
        assert operation.at == JOBS
        if action is Action.RETRY:
            # What the killed one had done of its last batch without saying so is told as done by another.
            assert JOBS - operation.done <= 1_000
            waiting = WAITING[library](client)
            assert len(waiting) == len(set(waiting)) == JOBS
            if library in DEAD:
                assert client.zcard(DEAD[library]) == 0
            return
        assert operation.outcomes == {"done": JOBS}
        assert len(picture(client)) < 10
        back = parts.actions.undo_batch(
            operation.spec.actor, batch_of(operation.id, operation.spec.job_lists[0], operation.spec)
        )
        assert back.count(Outcome.DONE) == JOBS
        assert picture(client) == before
