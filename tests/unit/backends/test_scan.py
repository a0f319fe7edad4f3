"""Looking for keys in steps that hold Redis up for a millisecond at most."""

from __future__ import annotations

import redis

from dashboard.backends.base import Budget
from dashboard.backends.scan import scan_step
from dashboard.sources import Source, metered

KEYS = 30_000


def patient(commands: int) -> Budget:
    """A budget of so many commands, however slow the machine."""
    return Budget(commands, seconds=1e9, slow_command_s=1e9)


def test_one_command_looks_at_about_a_thousand_keys_however_many_there_are(
    source: Source, redis_client: redis.Redis
) -> None:
    redis_client.mset({f"key:{number}": "" for number in range(KEYS)})
    with metered() as meter:
        found, cursor = scan_step(source, 0, patient(1), match="key:*")
    assert meter.commands == 1
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
        with metered() as meter:
            keys, cursor = scan_step(source, cursor, patient(5), match="key:*")
        assert meter.commands <= 5
        found.update(keys)
        if cursor == 0:
            break
    assert len(found) == KEYS


def test_a_slow_answer_ends_the_step(source: Source, redis_client: redis.Redis) -> None:
    redis_client.mset({f"key:{number}": "" for number in range(KEYS)})
    with metered() as meter:
        _, cursor = scan_step(source, 0, Budget(100, seconds=1e9, slow_command_s=0.0), match="*")
    assert meter.commands == 1
    assert cursor != 0


def test_a_type_is_asked_for_by_redis(source: Source, redis_client: redis.Redis) -> None:
    redis_client.set("text", "")
    redis_client.sadd("set", "member")
    assert scan_step(source, 0, patient(5), match="*", key_type="set") == ([b"set"], 0)
