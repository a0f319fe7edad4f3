"""Data of any size and depth from producers and workers of RQ affects one row, never the page."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sizes import DEEP, MIB, address_of_user, sent_bytes
from tests.contract.test_bullmq import READER
from tests.contract.test_rq import refs_of

NOW = "2026-11-24T03:00:00.000000Z"


@pytest.fixture(params=["scripts", "plain"])
def backend(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[RQ]:
    """The backend of a user with and of one without scripts."""
    url = address_of_user(server, redis_client, READER, scripts=request.param == "scripts")
    source = Source("main", url)
    yield RQ(source, SourceSettings(name="main", url=url))
    source.close()


def add(client: redis.Redis, job_id: str, **fields: str) -> None:
    """A job that waits and that failed."""
    client.sadd("rq:queues", "rq:queue:alpha")
    known = {"origin": "alpha", "status": "failed", "description": "shop.send()", "created_at": NOW, "enqueued_at": NOW}
    client.hset(f"rq:job:{job_id}", mapping={**known, **fields})
    client.rpush("rq:queue:alpha", job_id)
    client.zadd("rq:failed:alpha", {job_id: 4_000_000_000})


@pytest.mark.parametrize(
    "name",
    [
        *("data", "description", "exc_info", "meta", "result", "created_at", "enqueued_at", "ended_at", "started_at"),
        *("origin", "status", "timeout", "dependency_id", "dependency_ids", "worker_name", "retries_left"),
    ],
)
def test_a_field_of_any_size_or_depth_does_not_affect_other_rows(
    backend: RQ, redis_client: redis.Redis, name: str
) -> None:
    add(redis_client, "1")
    add(redis_client, "2", **{name: DEEP})
    add(redis_client, "3", **{name: "x" * 5 * MIB})
    ref = refs_of(backend)["alpha"]
    before = sent_bytes(redis_client)
    for state in (State.WAITING, State.DEAD):
        page = backend.list_jobs(ref, JobQuery(state=state))
        assert {job.id for job in page.jobs} == {"1", "2", "3"}
        assert len(backend.search_page(ref, JobQuery(state=state, per_page=500)).rows) == 3
        assert len(backend.list_job_refs(ref, JobQuery(state=state, per_page=500))) == 3
        for job in page.jobs:
            assert backend.read_job(ref, job.id).id == job.id
    assert backend.read_stats([ref])[0].counts.waiting == 3
    assert sent_bytes(redis_client) - before < 4 * MIB


@pytest.mark.parametrize("name", ["queues", "current_job", "hostname", "birth", "last_heartbeat", "total_working_time"])
def test_a_worker_of_any_size_does_not_affect_other_rows(backend: RQ, redis_client: redis.Redis, name: str) -> None:
    add(redis_client, "1")
    for worker, value in (("plain", "1"), ("long", "x" * 5 * MIB), ("deep", DEEP)):
        key = f"rq:worker:{worker}"
        redis_client.sadd("rq:workers", key)
        redis_client.hset(key, mapping={"birth": NOW, "last_heartbeat": NOW, "queues": "alpha", "state": "idle"})
        redis_client.hset(key, name, value)
    refs = list(refs_of(backend).values())
    before = sent_bytes(redis_client)
    assert [worker.id for worker in backend.list_workers(refs)] == ["deep", "long", "plain"]
    assert sent_bytes(redis_client) - before < MIB


def test_a_cron_scheduler_of_any_size_or_depth_does_not_affect_others(backend: RQ, redis_client: redis.Redis) -> None:
    add(redis_client, "1")
    entries = {
        "deep": DEEP,
        "deep too": json.dumps([{"func_name": "a", "args": DEEP, "kwargs": DEEP}]),
        "long": json.dumps([{"func_name": "b", "args": "x" * 5 * MIB}]),
        "plain": json.dumps([{"func_name": "c", "interval": 5, "queue_name": "alpha"}]),
    }
    for n, (name, jobs) in enumerate(entries.items()):
        redis_client.zadd("rq:cron_schedulers", {name: n})
        redis_client.hset(f"rq:cron_scheduler:{name}", mapping={"cron_jobs": jobs, "hostname": "h"})
    before = sent_bytes(redis_client)
    found = backend.list_schedules(list(refs_of(backend).values()))
    assert {entry.name for entry in found} >= {"a", "c"}
    assert sent_bytes(redis_client) - before < MIB


def test_a_result_of_unknown_size_is_not_read(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    add(redis_client, "1")
    redis_client.xadd("rq:results:1", {"type": "2", "exc_string": "x" * 5 * MIB})
    rights = "on >secret resetkeys ~* -@all +@read -@dangerous +ping +hello +auth +select +info +time +eval +eval_ro"
    redis_client.execute_command("ACL", "SETUSER", "unmeasured", *rights.split(), "-memory")
    source = Source("main", f"redis://unmeasured:secret@127.0.0.1:{server.port}/0")
    backend = RQ(source, SourceSettings(name="main", url=server.url))
    ref = refs_of(backend)["alpha"]
    before = sent_bytes(redis_client)
    assert backend.read_job(ref, "1").id == "1"
    assert backend.list_jobs(ref, JobQuery(state=State.DEAD)).jobs[0].id == "1"
    assert sent_bytes(redis_client) - before < MIB
    source.close()
