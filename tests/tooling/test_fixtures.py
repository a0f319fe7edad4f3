"""Servers that all tests of a process share: nothing that a test did to one is there for the next test."""

from __future__ import annotations

import redis

from dashboard.demo.embedded import EmbeddedRedis
from tests.conftest import reset_server


def test_a_server_is_as_fresh_after_whatever_a_test_did_to_it(
    any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    fresh = any_redis.config_get("*"), any_redis.acl_list()
    any_redis.set("left", 1)
    any_redis.acl_setuser("left", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
    any_redis.execute_command("ACL", "SETUSER", "default", "-@list", "resetkeys")
    for name, value in {"maxmemory": 1, "maxmemory-policy": "allkeys-lru", "maxclients": 20, "save": "1 1"}.items():
        any_redis.config_set(name, value)
    any_redis.config_set("slowlog-log-slower-than", 5)
    any_redis.replicaof("127.0.0.1", 1)
    any_redis.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    with redis.Redis.from_url(any_server.url) as other:
        reset_server(other)
        assert (other.config_get("*"), other.acl_list()) == fresh
        assert other.info("replication")["role"] == "master"
        assert other.keys() == []
        other.set("written", 1)  # which a pause that is still on would hold up for ten minutes
