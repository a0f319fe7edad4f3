"""Looking for keys in steps that hold Redis up for a millisecond at most."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
import redis

from dashboard.backends.base import Budget
from dashboard.backends.scan import scan_step, timed_command
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import Forbidden
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Command, Reply, Source

KEYS = 30_000
WAY_S = 0.3


class Far(Source):
    """A server at the end of a long way."""

    def run_batch(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies, later."""
        time.sleep(WAY_S)
        return super().run_batch(commands)


def patient(commands: int) -> Budget:
    """A budget of so many commands, however slow the machine."""
    return Budget(commands, seconds=1e9, slow_command_s=1e9)


def test_one_command_looks_at_about_a_thousand_keys_however_many_there_are(
    source: Source, redis_client: redis.Redis
) -> None:
    redis_client.mset({f"key:{number}": "" for number in range(KEYS)})
    with measure_cost() as meter:
        found, cursor = scan_step(source, 0, patient(1), match="key:*")
    assert meter.round_trips == 1
    assert 0 < len(found) < 2000
    assert cursor != 0


def test_a_search_ends_with_all_keys_and_within_the_budget_of_each_step(
    source: Source, redis_client: redis.Redis
) -> None:
    redis_client.mset({f"key:{number}": "" for number in range(KEYS)})
    redis_client.mset({f"other:{number}": "" for number in range(100)})
    found: set[bytes] = set()
    cursor = 0
    for _ in range(KEYS):
        with measure_cost() as meter:
            keys, cursor = scan_step(source, cursor, patient(5), match="key:*")
        assert meter.round_trips <= 5
        found.update(keys)
        if cursor == 0:
            break
    assert len(found) == KEYS


def test_a_slow_answer_ends_the_step(source: Source, redis_client: redis.Redis) -> None:
    redis_client.mset({f"key:{number}": "" for number in range(KEYS)})
    with measure_cost() as meter:
        _, cursor = scan_step(source, 0, Budget(100, seconds=1e9, slow_command_s=0.0), match="*")
    assert meter.round_trips == 1
    assert cursor != 0


def test_a_server_that_is_far_away_is_no_slow_server(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    source = Far("main", server.url)
    begun = time.perf_counter()
    reply, server_s = timed_command(source, "SCAN", 0)
    elapsed_s = time.perf_counter() - begun
    source.close()
    assert reply == [b"0", []]
    assert elapsed_s >= WAY_S
    assert server_s < elapsed_s / 2


def test_a_command_is_timed_by_the_clock_of_the_server(source: Source) -> None:
    _, server_s = timed_command(source, "BLPOP", "nothing", "0.05")
    assert server_s >= 0.05


def test_who_may_not_ask_for_the_time_searches_all_the_same(source: Source, redis_client: redis.Redis) -> None:
    redis_client.mset({f"key:{number}": "" for number in range(3)})
    redis_client.execute_command("ACL", "SETUSER", "default", "-time")
    found, cursor = scan_step(source, 0, patient(5), match="key:*")
    assert (len(found), cursor) == (3, 0)


def test_a_refused_scan_is_reported(source: Source, redis_client: redis.Redis) -> None:
    redis_client.execute_command("ACL", "SETUSER", "default", "-scan")
    with pytest.raises(Forbidden, match="scan"):
        scan_step(source, 0, patient(5), match="key:*")


def test_a_type_is_asked_for_by_redis(source: Source, redis_client: redis.Redis) -> None:
    redis_client.set("text", "")
    redis_client.sadd("set", "member")
    assert scan_step(source, 0, patient(5), match="*", key_type="set") == ([b"set"], 0)
