"""What a search of the key space costs a server with many keys."""

from __future__ import annotations

import redis

from dashboard.backends.base import Budget
from dashboard.backends.scan import scan_step
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources import Source


def test_one_call_looks_at_few_of_many_keys(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    redis_client.mset({f"key-{n}": "" for n in range(20_000)})
    source = Source("main", server.url)
    found, cursor = scan_step(source, 0, Budget(commands=1, seconds=60), match="*")
    source.close()
    assert cursor != 0
    assert 500 <= len(found) <= 2_000
