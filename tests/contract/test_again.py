"""Refreshed figures of RQ, Sidekiq and Celery equal figures that are read for the first time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.base import Backend
from dashboard.backends.celery.backend import Celery
from dashboard.backends.rq.backend import RQ
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import QueueRef
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.bench.queues import LIBRARIES, rest
from tests.contract.sizes import address_of_user
from tests.contract.test_again_bullmq import commands_of, split_ages
from tests.contract.test_bullmq import READER, discover
from tests.counting import calls_of

BACKENDS: dict[str, type[Backend]] = {"rq": RQ, "sidekiq": Sidekiq, "celery": Celery}
QUEUES = 100
OLD = 1_700_000_000
JOB = json.dumps({"class": "Send", "args": [], "jid": "a" * 24, "enqueued_at": OLD, "created_at": OLD})
# Changes of the first queue, one between two samples.
CHANGES: dict[str, tuple[tuple[Any, ...], ...]] = {
    "sidekiq": (
        ("RPUSH", "queue:queue-0000", JOB),
        ("RPUSH", "queue:queue-0000", JOB.replace(str(OLD), str(OLD + 900))),
        ("RPUSH", "queue:queue-0000", JOB.replace(str(OLD), '"never"')),
        ("SADD", "paused", "queue-0000"),
        ("DEL", "queue:queue-0000"),
        ("SREM", "paused", "queue-0000"),
        ("DEL", "host-0:1:abcdef:work"),
        ("HSET", "host-0:1:abcdef", "info", json.dumps({"queues": ["queue-0000"], "version": "7.0.1"})),
        ("DEL", "host-0:1:abcdef"),
        ("ZADD", "retry", str(OLD), JOB),
        ("DEL", "schedule", "retry", "dead"),
        ("SET", "queue:queue-0000", "no list"),
        ("SET", "dead", "no set"),
    ),
    "celery": (
        ("LPUSH", "queue-0000", "{}"),
        ("LPUSH", "queue-0000\x06\x163", "{}", "{}"),
        ("LPUSH", "queue-0000\x06\x169", "{}"),
        ("DEL", "queue-0000"),
        ("DEL", "queue-0000\x06\x163", "queue-0000\x06\x169"),
        ("HSET", "unacked", "odd", "no JSON"),
        ("DEL", "unacked"),
        ("SET", "queue-0000\x06\x166", "no list"),
        ("DEL", "queue-0000\x06\x166"),
        ("SET", "queue-0000", "no list"),
    ),
    "rq": (
        ("HSET", "rq:job:queue-0000-0", "enqueued_at", "2023-01-01T00:00:00.000000Z"),
        ("HSET", "rq:job:queue-0000-0", "enqueued_at", "2024-01-01T00:00:00.000000Z"),
        ("HSET", "rq:job:queue-0000-0", "enqueued_at", "x" * 100),
        ("DEL", "rq:job:queue-0000-0"),
        ("LPUSH", "rq:queue:queue-0000", "queue-0000-19"),
        ("DEL", "rq:queue:queue-0000"),
        ("LPUSH", "rq:queue:queue-0000:intermediate", "queue-0000-1"),
        ("DEL", "rq:queue:queue-0000:intermediate"),
        ("ZADD", "rq:wip:queue-0000", str(OLD), "lost"),
        ("ZADD", "rq:wip:queue-0000", str(2 * OLD), "lost"),
        ("DEL", "rq:wip:queue-0000"),
        ("ZADD", "rq:scheduled:queue-0000", str(OLD), "queue-0000-7"),
        ("HSET", "rq:job:queue-0000-7", "retries_left", "3"),
        ("HDEL", "rq:job:queue-0000-7", "started_at"),
        ("DEL", "rq:scheduled:queue-0000"),
        ("ZADD", "rq:deferred:queue-0000", "1", "queue-0000-8"),
        ("ZADD", "rq:failed:queue-0000", str(OLD), "queue-0000-9"),
        ("ZADD", "rq:failed:queue-0000", "-1", "queue-0000-9"),
        ("DEL", "rq:failed:queue-0000"),
        ("ZADD", "rq:finished:queue-0000", str(OLD), "queue-0000-9"),
        ("DEL", "rq:finished:queue-0000"),
        ("ZADD", "rq:canceled:queue-0000", "1", "queue-0000-9"),
        ("DEL", "rq:canceled:queue-0000", "rq:deferred:queue-0000"),
        ("HSET", "rq:worker:0", "version", "2.0.0"),
        ("DEL", "rq:worker:0"),
        ("SET", "rq:suspended", "1"),
        ("DEL", "rq:suspended"),
        ("SET", "rq:failed:queue-0000", "no set"),
        ("DEL", "rq:failed:queue-0000"),
        ("SET", "rq:queue:queue-0000", "no list"),
    ),
}


@pytest.fixture(params=["scripts", "plain"])
def source(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Source]:
    """The server for a user with and for one without scripts."""
    source = Source("main", address_of_user(server, redis_client, READER, scripts=request.param == "scripts"))
    yield source
    source.close()


def queues_of(source: Source, client: redis.Redis, name: str, queues: int) -> tuple[Backend, list[QueueRef]]:
    """The backend and its filled queues."""
    LIBRARIES[name].fill(client, queues)
    backend = BACKENDS[name](source, SourceSettings(name="main", url="redis://unused"))
    return backend, list(discover(backend).values())


@pytest.mark.parametrize("name", CHANGES)
def test_refreshed_figures_equal_fresh_ones_after_each_change(
    source: Source, redis_client: redis.Redis, name: str
) -> None:
    backend, refs = queues_of(source, redis_client, name, 3)
    cache: dict[str, Any] = {}
    backend.refresh_stats(refs, cache)
    seen_states: set[str] = {repr([split_ages(queue)[0] for queue in backend.read_stats(refs)])}
    for change in CHANGES[name]:
        redis_client.execute_command(*change)
        for _ in range(2):  # the second time nothing changed
            refreshed, fresh = backend.refresh_stats(refs, cache), backend.read_stats(refs)
            for one, other in zip(refreshed, fresh, strict=True):
                (figures, ages), (true, true_ages) = split_ages(one), split_ages(other)
                assert figures == true, change
                assert ages == pytest.approx(true_ages, abs=5), change
        seen_states.add(
            repr([(split_ages(queue)[0], queue.latency_s and queue.latency_s > 1000) for queue in refreshed])
        )
    assert len(seen_states) > len(CHANGES[name]) / 2


@pytest.mark.parametrize("name", ["rq", "sidekiq"])
def test_ages_grow_while_nothing_changes(
    source: Source, redis_client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, refs = queues_of(source, redis_client, name, 1)
    for key in ("rq:scheduled:queue-0000", "retry"):
        redis_client.zadd(key, {"queue-0000-6": OLD})
    cache: dict[str, Any] = {}
    first = backend.refresh_stats(refs, cache)
    now = source.now_s()
    monkeypatch.setattr(source, "now_s", lambda: now + 100)
    second = backend.refresh_stats(refs, cache)
    grown = [
        getattr(other, age) - getattr(one, age)
        for one, other in zip(first, second, strict=True)
        for age in ("latency_s", "overdue_s")
        if getattr(one, age)
    ]
    assert grown == pytest.approx([100, 100], abs=30)


@pytest.mark.parametrize(("name", "most"), [("sidekiq", 27), ("celery", 25)])
def test_refreshing_unchanged_queues_needs_few_calls(
    server: EmbeddedRedis, redis_client: redis.Redis, name: str, most: int
) -> None:
    source = Source("main", server.url)
    backend, refs = queues_of(source, redis_client, name, QUEUES)
    if name == "sidekiq":  # without waiting jobs no figure depends on the clock
        redis_client.delete(*(f"queue:{ref.name}" for ref in refs))
    cache: dict[str, Any] = {}
    first = calls_of(lambda: backend.refresh_stats(refs, cache))
    refreshed = calls_of(lambda: backend.refresh_stats(refs, cache))
    assert refreshed < most * QUEUES, (first, refreshed)
    assert refreshed < first * 0.85
    source.close()


def commands_of_refresh(backend: Backend, refs: list[QueueRef], client: redis.Redis) -> dict[str, int]:
    """How often each command ran for one refresh of the figures."""
    cache: dict[str, Any] = {}
    backend.refresh_stats(refs, cache)
    client.config_resetstat()
    backend.refresh_stats(refs, cache)
    return commands_of(client)


def test_data_shared_by_sidekiq_queues_is_read_once(source: Source, redis_client: redis.Redis) -> None:
    backend, refs = queues_of(source, redis_client, "sidekiq", QUEUES)
    commands = commands_of_refresh(backend, refs, redis_client)
    # Processes and paused; schedule, retry and dead.
    assert (commands.get("sscan", 0) + commands.get("smembers", 0), commands["zcard"]) == (2, 3)


def test_messages_held_by_celery_workers_are_read_once(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    source = Source("main", server.url)
    backend, refs = queues_of(source, redis_client, "celery", QUEUES)
    commands = commands_of_refresh(backend, refs, redis_client)
    assert commands["hkeys"] == 1
    # One command shows that no message has a priority.
    assert (commands["llen"], commands["exists"]) == (QUEUES, QUEUES)
    source.close()


def test_idle_rq_queues_need_few_commands(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    source = Source("main", server.url)
    backend, refs = queues_of(source, redis_client, "rq", QUEUES)
    rest(redis_client, QUEUES, LIBRARIES["rq"])
    commands = commands_of_refresh(backend, refs, redis_client)
    # Failed jobs and workers; how many failed jobs expired and how many finished ones have not.
    assert [commands.get(name, 0) for name in ("exists", "zcard", "scard", "zcount", "llen")] == [
        *(QUEUES + 1, QUEUES, QUEUES + 1, 2 * QUEUES, 0),  # and once for all queues
    ]
    redis_client.delete(*(f"rq:finished:{ref.name}" for ref in refs))
    _, cursor = backend.read_flow(refs, None)
    redis_client.config_resetstat()
    backend.read_flow(refs, cursor)
    # If no score is above the lowest bound, the higher bounds are not counted.
    assert commands_of(redis_client)["zcount"] == 5 * QUEUES
    source.close()


def test_the_next_job_of_an_rq_queue_is_read_once(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    source = Source("main", server.url)
    backend, refs = queues_of(source, redis_client, "rq", QUEUES)
    redis_client.delete("rq:workers")
    _, cursor = backend.read_flow(refs, None)
    first = commands_of(redis_client)["hstrlen"]
    redis_client.config_resetstat()
    backend.read_flow(refs, cursor)
    assert first >= 2 * QUEUES
    assert commands_of(redis_client).get("hstrlen", 0) == 0
    source.close()
