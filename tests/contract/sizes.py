"""What the tests of large values share: a user with and one without scripts, and what was sent to clients."""

from __future__ import annotations

import redis

from dashboard.demo.embedded import EmbeddedRedis

MIB = 1024 * 1024
DEEP = "[" * 100_000 + "]" * 100_000


def address_of_user(server: EmbeddedRedis, client: redis.Redis, grants: str, *, scripts: bool) -> str:
    """The URL of a user who may run scripts, or else of one who has only `grants`."""
    if scripts:
        return server.url
    client.execute_command("ACL", "SETUSER", "reader", *grants.split())
    return f"redis://reader:secret@127.0.0.1:{server.port}/0"


def sent_bytes(client: redis.Redis) -> int:
    """How much the server has sent to its clients so far."""
    found: int = client.info("stats")["total_net_output_bytes"]
    return found
