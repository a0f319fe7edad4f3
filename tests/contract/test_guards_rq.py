"""Guards of RQ's scripts that no other test holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from rq import Queue
from rq.job import Job

from dashboard.backends.acting import Pick
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from dashboard.settings import SourceSettings
from dashboard.sources import Source
from tests.contract.rq_acting import REF, kept, outcomes
from tests.contract.rq_library import connected, drain
from tests.workloads import rq_jobs


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[RQ]:
    source = Source("main", server.url)
    yield RQ(source, SourceSettings(name="main", url=server.url))
    source.close()


@pytest.fixture
def queue(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Queue]:
    with connected(server.url) as client:
        yield Queue("alpha", connection=client)


def test_dependents_that_came_back_first_stay_tied_to_their_parent(backend: RQ, queue: Queue) -> None:
    parent = queue.enqueue(rq_jobs.add, 1)
    child = queue.enqueue(rq_jobs.add, 2, depends_on=parent)
    below = kept(backend.take(REF, State.BLOCKED, [Pick(id=child.id)]))
    assert outcomes(backend.delete(REF, State.BLOCKED, below)) == ["done"]
    above = kept(backend.take(REF, State.WAITING, [Pick(id=parent.id)]))
    assert outcomes(backend.delete(REF, State.WAITING, above)) == ["done"]
    assert outcomes(backend.restore(REF, State.BLOCKED, below)) == ["done"]
    assert outcomes(backend.restore(REF, State.WAITING, above)) == ["done"]
    drain(queue)
    assert len(Job.fetch(child.id, connection=queue.connection).results()) == 1
