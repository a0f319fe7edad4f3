"""Guards of RQ's scripts that no other test covers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from rq import Queue
from rq.job import Job

from dashboard.backends.actions import Action, ActionOptions, JobRef
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.rq_actions import REF, backups_of, outcomes
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.workloads import rq_jobs


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[RQ]:
    source = Source("main", server.url)
    yield RQ(source, SourceSettings(name="main", url=server.url))
    source.close()


@pytest.fixture
def queue(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Queue]:
    with open_client(server.url) as client:
        yield Queue("alpha", connection=client)


def test_a_dependent_restored_before_its_parent_still_runs_after_it(backend: RQ, queue: Queue) -> None:
    parent = queue.enqueue(rq_jobs.add, 1)
    child = queue.enqueue(rq_jobs.add, 2, depends_on=parent)
    below = backups_of(backend.backup_jobs(REF, State.BLOCKED, [JobRef(id=child.id)]))
    assert outcomes(backend.delete_jobs(REF, State.BLOCKED, below)) == ["done"]
    above = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=parent.id)]))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, above)) == ["done"]
    assert outcomes(backend.restore_jobs(REF, State.BLOCKED, below)) == ["done"]
    assert outcomes(backend.restore_jobs(REF, State.WAITING, above)) == ["done"]
    run_waiting_jobs(queue)
    assert len(Job.fetch(child.id, connection=queue.connection).results()) == 1


@pytest.mark.parametrize("ttl", ["1.5", "0.5", "1e999", "9" * 30, "nan", "-1", "600"])
def test_a_retried_job_with_an_odd_time_to_live_is_in_one_list(backend: RQ, queue: Queue, ttl: str) -> None:
    job = queue.enqueue(rq_jobs.fail, "no")
    run_waiting_jobs(queue)
    client = queue.connection
    client.hset(job.key, "ttl", ttl)
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id=job.id)], ActionOptions())) == [
        "done"
    ]
    assert (client.lrange("rq:queue:alpha", 0, -1), client.zcard("rq:failed:alpha")) == ([job.id.encode()], 0)
    left = client.ttl(job.key)
    assert left == {"1.5": 1, "600": 600}.get(ttl, -1) or (ttl in ("1.5", "600") and 0 <= left <= 600)
