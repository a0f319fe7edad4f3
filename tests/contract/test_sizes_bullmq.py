"""Data of any size and depth from producers and workers of BullMQ affects one row, never the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sizes import DEEP, MIB, address_of_user, sent_bytes
from tests.contract.test_bullmq import READER, discover


@pytest.fixture(params=["scripts", "plain"])
def backend(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    """The backend of a user with and of one without scripts."""
    url = address_of_user(server, redis_client, f"{READER} +client|list", scripts=request.param == "scripts")
    source = Source("main", url)
    yield BullMQ(source, SourceSettings(name="main", url=url))
    source.close()


def add(client: redis.Redis, job_id: str, **fields: str) -> None:
    """A failed job as the library keeps it."""
    now = int(time.time() * 1000)
    client.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    known = {"name": "send", "data": "{}", "opts": "{}", "timestamp": str(now), "failedReason": "no"}
    client.hset(f"bull:alpha:{job_id}", mapping={**known, **fields})
    client.zadd("bull:alpha:failed", {job_id: now})
    client.lpush("bull:alpha:wait", job_id)


@pytest.mark.parametrize(
    "name",
    [
        *("data", "opts", "returnvalue", "stacktrace", "failedReason", "progress", "name", "timestamp", "processedOn"),
        *("atm", "attemptsMade", "priority", "delay", "pb", "rjk", "deid", "parentKey"),
    ],
)
def test_a_field_of_any_size_or_depth_does_not_affect_other_rows(
    backend: BullMQ, redis_client: redis.Redis, name: str
) -> None:
    add(redis_client, "1")
    add(redis_client, "2", **{name: DEEP})
    add(redis_client, "3", **{name: "x" * 5 * MIB})
    add(redis_client, "4", **{name: '{"a":' * 5_000 + "1" + "}" * 5_000})
    ref = discover(backend)["alpha"]
    before = sent_bytes(redis_client)
    for state in (State.WAITING, State.DEAD):
        page = backend.list_jobs(ref, JobQuery(state=state))
        assert {job.id for job in page.jobs} == {"1", "2", "3", "4"}
        assert len(backend.search_page(ref, JobQuery(state=state, per_page=500)).rows) == 4
        for job in page.jobs:
            assert backend.read_job(ref, job.id).id == job.id
    assert backend.read_stats([ref])[0].counts.waiting == 4
    backend.list_workers([ref])
    assert sent_bytes(redis_client) - before < 4 * MIB


def test_logs_of_any_size_are_read_within_bounds(backend: BullMQ, redis_client: redis.Redis) -> None:
    add(redis_client, "1")
    redis_client.rpush("bull:alpha:1:logs", "first", *("x" * 3 * MIB for _ in range(20)), "last")
    ref = discover(backend)["alpha"]
    before = sent_bytes(redis_client)
    job = backend.read_job(ref, "1")
    assert job.logs_total == 22
    assert job.logs[-1] == "last"
    # One row after the newest was as long as all that is read of logs.
    assert 2 <= len(job.logs) < 22
    assert sent_bytes(redis_client) - before < 13 * MIB


def test_large_locks_and_limiters_are_not_fetched(backend: BullMQ, redis_client: redis.Redis) -> None:
    add(redis_client, "1")
    redis_client.lpush("bull:alpha:active", "1")
    redis_client.set("bull:alpha:1:lock", "x" * 9 * MIB)
    redis_client.set("bull:alpha:limiter", "9" * 9 * MIB, px=60_000)
    ref = discover(backend)["alpha"]
    before = sent_bytes(redis_client)
    assert backend.list_jobs(ref, JobQuery(state=State.ACTIVE)).jobs[0].id == "1"
    backend.read_stats([ref])
    backend.list_workers([ref])
    assert sent_bytes(redis_client) - before < (10 * MIB if backend._scripts.are_refused else MIB)


def test_latency_ignores_an_invalid_timestamp(backend: BullMQ, redis_client: redis.Redis) -> None:
    add(redis_client, "1", timestamp=str(int(time.time() * 1000) - 60_000))
    add(redis_client, "2", timestamp="x" * MIB)
    ref = discover(backend)["alpha"]
    stats = backend.read_stats([ref])[0]
    assert stats.latency_s is not None
    assert stats.latency_s >= 60


@pytest.mark.parametrize("field", ["paused", "version", "concurrency", "max", "duration", "opts.maxLenEvents"])
def test_large_meta_fields_are_not_fetched(backend: BullMQ, redis_client: redis.Redis, field: str) -> None:
    add(redis_client, "1")
    redis_client.hset("bull:alpha:meta", field, "9" * 9 * MIB)
    before = sent_bytes(redis_client)
    ref = discover(backend)["alpha"]
    seen: dict[str, Any] = {}
    for _ in range(3):
        (stats,) = backend.refresh_stats([ref], seen)
        assert (stats.counts.waiting, stats.error) == (1, None)
    if field == "version":
        assert stats.read_only is not None
    assert sent_bytes(redis_client) - before < MIB


def test_a_huge_id_does_not_affect_other_rows(backend: BullMQ, redis_client: redis.Redis) -> None:
    for job_id in ("1", "2", "3"):
        add(redis_client, job_id)
    long = "x" * 9 * MIB
    redis_client.lpush("bull:alpha:wait", long)  # the newest: it is served last
    redis_client.zadd("bull:alpha:failed", {long: 1})
    ref = discover(backend)["alpha"]
    backend.read_stats([ref])
    if backend._scripts.are_refused:
        return  # a list tells how long its members are to scripts alone
    before = sent_bytes(redis_client)
    for state in (State.WAITING, State.DEAD):
        query = JobQuery(state=state)
        page = backend.list_jobs(ref, query)
        assert page.total == 4
        assert [job.id for job in page.jobs if not job.problem] == ids_of(backend, state)
        (odd,) = [job for job in page.jobs if job.problem]
        assert (odd.problem or "").startswith(f"its id is {9 * MIB} bytes long: not read.")
        assert len(backend.search_page(ref, query).rows) == 4
    # Behind more bytes than one call reads, nothing is read: neither of lists nor of sets.
    redis_client.rpush("bull:alpha:wait", *(f"{n}{long}" for n in range(17)))
    page = backend.list_jobs(ref, JobQuery(state=State.WAITING))
    assert (page.total, len(page.jobs)) == (21, 21)
    assert sum("the ids before it are very long" in (job.problem or "") for job in page.jobs) == 5
    assert sent_bytes(redis_client) - before < MIB


def ids_of(backend: BullMQ, state: State) -> list[str]:
    return [job_ref.id for job_ref in backend.list_job_refs(discover(backend)["alpha"], JobQuery(state=state))]
