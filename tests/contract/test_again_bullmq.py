"""Refreshed figures of BullMQ equal figures that are read for the first time, at a lower cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import redis

from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import Quality, QueueRef, QueueStats
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.bench.queues import fill_bullmq as fill
from tests.contract.sizes import address_of_user
from tests.contract.test_bullmq import READER
from tests.counting import calls_of

QUEUES = 50
BASE = "bull:queue-0000:"
OLD = {"timestamp": 1_700_000_000_000, "opts": "{}", "data": "{}"}
# Changes of a queue, one between two samples; none of them leaves an event.
CHANGES: tuple[tuple[Any, ...], ...] = (
    ("HSET", "oldest", "timestamp", "1700000000000", "opts", '{"delay":5000,"attempts":3}'),
    ("RPUSH", "wait", "oldest"),
    ("HSET", "oldest", "opts", '{"delay":9000,"attempts":3}'),
    ("HSET", "oldest", "atm", "1", "processedOn", "1700000001000"),
    ("HSET", "oldest", "atm", "1" * 100),
    ("HSET", "oldest", "atm", "0", "opts", "x" * 5000),
    ("HSET", "oldest", "opts", '{"delay":7000,"attempts":3}'),
    ("DEL", "oldest"),
    ("RPUSH", "wait", "0:0"),
    ("LPUSH", "paused", "6"),
    ("HSET", "meta", "paused", "1"),
    ("ZADD", "prioritized", "1", "7"),
    ("SET", "5:lock", "token"),
    ("HSET", "5", "processedOn", "1700000002000"),
    ("HSET", "5", "processedOn", "1700000003000"),
    ("DEL", "5:lock"),
    ("RPUSH", "active", "8"),
    ("DEL", "active"),
    ("ZADD", "delayed", str(1_700_000_000_000 * 4096), "9"),
    ("DEL", "delayed"),
    ("ZADD", "waiting-children", "1", "10"),
    ("SET", "limiter", "3", "PX", "3600000"),
    ("HSET", "meta", "max", "2", "duration", "1000", "concurrency", "5"),
    ("DEL", "limiter"),
    ("SET", "stalled-check", "1"),
    ("HDEL", "meta", "paused", "version", "opts.maxLenEvents"),
    ("SET", "meta-paused", "1"),
    ("DEL", "wait", "paused", "prioritized", "waiting-children", "failed", "completed", "stalled-check"),
    ("ZADD", "completed", "1", "11"),
    ("SET", "failed", "no sorted set"),
    ("DEL", "failed"),
    ("DEL", "meta"),
    ("SET", "meta", "no hash"),
    ("SADD", "wait", "no list"),
    ("DEL", "wait"),
    ("LPUSH", "wait", "12"),
)
AGES = ("latency_s", "overdue_s", "active_age_s")


def queue_refs(count: int = QUEUES) -> list[QueueRef]:
    """The queues that `fill` makes."""
    names = [f"queue-{number:04}" for number in range(count)]
    return [QueueRef(source="main", backend="bullmq", name=name, key=f"bull:{name}") for name in names]


@pytest.fixture(params=["scripts", "plain"])
def backend(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    """The backend of a user with and of one without scripts."""
    url = address_of_user(server, redis_client, f"{READER} +client|list", scripts=request.param == "scripts")
    source = Source("main", url)
    yield BullMQ(source, SourceSettings(name="main", url=url))
    source.close()


def split_ages(queue: QueueStats) -> tuple[QueueStats, tuple[float | None, ...]]:
    """A queue without its ages, and its ages."""
    return msgspec.structs.replace(queue, **dict.fromkeys(AGES)), tuple(getattr(queue, name) for name in AGES)


def test_refreshed_figures_equal_fresh_ones_after_each_change(backend: BullMQ, redis_client: redis.Redis) -> None:
    fill(redis_client, 3)
    cache: dict[str, Any] = {}
    backend.refresh_stats(queue_refs(3), cache)
    states = []
    for command, key, *arguments in CHANGES:
        keys = (key, *arguments) if command == "DEL" else (key,)
        redis_client.execute_command(command, *(BASE + each for each in keys), *(() if command == "DEL" else arguments))
        for _ in range(2):  # the second time nothing changed
            refreshed, fresh = backend.refresh_stats(queue_refs(3), cache), backend.read_stats(queue_refs(3))
            for one, other in zip(refreshed, fresh, strict=True):
                (figures, ages), (true, true_ages) = split_ages(one), split_ages(other)
                assert figures == true, command
                assert ages == pytest.approx(true_ages, abs=5), (command, key)
        states.append(split_ages(refreshed[0]))
    assert sum(one != other for one, other in pairwise(states)) > 25


def test_ages_grow_while_nothing_changes(backend: BullMQ, redis_client: redis.Redis) -> None:
    fill(redis_client, 1)
    redis_client.hset(BASE + "5", "processedOn", 1_700_000_000_000)
    redis_client.zadd(BASE + "delayed", {"6": (time.time() * 1000 - 60_000) * 4096})
    cache: dict[str, Any] = {}
    (first,) = backend.refresh_stats(queue_refs(1), cache)
    backend.source.now_s = lambda: time.time() + 100  # type: ignore[method-assign]
    (second,) = backend.refresh_stats(queue_refs(1), cache)
    grown = [getattr(second, name) - getattr(first, name) for name in AGES if getattr(first, name) is not None]
    assert grown == pytest.approx([100] * len(grown), abs=30)
    assert len(grown) >= 2


def test_a_refresh_returns_the_new_name_of_a_queue(backend: BullMQ, redis_client: redis.Redis) -> None:
    fill(redis_client, 1)
    cache: dict[str, Any] = {}
    backend.refresh_stats(queue_refs(1), cache)
    renamed = [msgspec.structs.replace(ref, name=ref.key) for ref in queue_refs(1)]
    assert [queue.name for queue in backend.refresh_stats(renamed, cache)] == ["bull:queue-0000"]


def commands_of(client: redis.Redis) -> dict[str, int]:
    """How often each command ran since the last CONFIG RESETSTAT, those of scripts among them."""
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


def test_refreshing_idle_queues_needs_few_commands_and_calls(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    fill(redis_client, QUEUES)
    for name in ("wait", "active", "delayed"):
        redis_client.delete(*(f"{ref.key}:{name}" for ref in queue_refs()))
    source = Source("main", server.url)
    backend = BullMQ(source, SourceSettings(name="main", url=server.url))
    cache: dict[str, Any] = {}
    first = calls_of(lambda: backend.refresh_stats(queue_refs(), cache))
    redis_client.config_resetstat()
    refreshed = calls_of(lambda: backend.refresh_stats(queue_refs(), cache))
    counts = commands_of(redis_client)
    # Keys that did not exist are checked together: 4 commands instead of 12.
    assert {name: counts.get(name, 0) for name in ("hmget", "exists", "zcard", "llen", "pttl")} == {
        "hmget": QUEUES,
        "exists": QUEUES,
        "zcard": 2 * QUEUES,
        "llen": 0,
        "pttl": 0,
    }
    assert refreshed < first / 3
    source.close()


def test_fields_of_unchanged_jobs_are_read_without_checking_their_size(
    server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fill(redis_client, QUEUES)
    source = Source("main", server.url)
    backend = BullMQ(source, SourceSettings(name="main", url=server.url))
    cache: dict[str, Any] = {}
    backend.refresh_stats(queue_refs(), cache)
    redis_client.config_resetstat()
    backend.refresh_stats(queue_refs(), cache)
    counts = commands_of(redis_client)
    assert "hstrlen" not in counts
    assert counts["hmget"] == 2 * QUEUES  # meta, and the next job
    assert counts["hget"] == 2 * QUEUES  # of the newest one, and of the one that runs
    source.close()


def test_rates_of_queues_without_jobs_need_few_commands(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    for ref in queue_refs():
        redis_client.hset(f"{ref.key}:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    source = Source("main", server.url)
    backend = BullMQ(source, SourceSettings(name="main", url=server.url))
    redis_client.config_resetstat()
    delta, _ = backend.read_flow(queue_refs(), None)
    counts = commands_of(redis_client)
    assert {name: counts.get(name, 0) for name in ("xrevrange", "xlen", "llen", "zcount", "zcard")} == {
        "xrevrange": QUEUES,
        "xlen": QUEUES,
        "llen": 0,
        "zcount": 0,
        "zcard": 0,
    }
    assert {(flow.completed, flow.quality.value) for flow in delta.queues} == {(0, "exact")}
    source.close()


def test_rates_of_queues_with_old_events_need_few_commands(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    fill(redis_client, QUEUES)  # its events are an hour old
    source = Source("main", server.url)
    backend = BullMQ(source, SourceSettings(name="main", url=server.url))
    first, cursor = backend.read_flow(queue_refs(), None)
    redis_client.config_resetstat()
    refreshed, cursor = backend.read_flow(queue_refs(), cursor)
    counts = commands_of(redis_client)
    names = ("xrevrange", "xlen", "exists", "get", "hget", "llen", "zcard", "lindex")
    assert {name: counts.get(name, 0) for name in names} == {
        **dict.fromkeys(names, 0),
        "xrevrange": QUEUES,
        "xlen": QUEUES,
    }
    assert {(flow.completed, flow.dead, flow.quality) for flow in (*first.queues, *refreshed.queues)} == {
        (0, 0, Quality.EXACT)
    }
    for event in ("active", "completed", "failed"):
        redis_client.xadd(BASE + "events", {"event": event, "jobId": "7"})
    redis_client.config_resetstat()
    ended = backend.read_flow(queue_refs(), cursor)[0].queues
    # Whether the newest jobs of both ends exist; jobs wait, so there is no check for an empty queue.
    assert commands_of(redis_client)["exists"] == 2
    assert [(flow.completed, flow.dead) for flow in ended] == [(1, 1), *[(0, 0)] * (QUEUES - 1)]
    source.close()


def test_events_of_a_stream_recreated_between_samples_are_counted(
    server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fill(redis_client, 1)
    source = Source("main", server.url)
    backend = BullMQ(source, SourceSettings(name="main", url=server.url))
    cursor = backend.read_flow(queue_refs(1), None)[1]
    redis_client.delete(BASE + "events")
    for event in ("active", "completed"):
        redis_client.xadd(BASE + "events", {"event": event, "jobId": "7"})
    (flow,) = backend.read_flow(queue_refs(1), cursor)[0].queues
    assert flow.completed == 1
    source.close()
