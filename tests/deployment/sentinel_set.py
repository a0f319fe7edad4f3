"""Real servers under the watch of three real Sentinels, as for production, but quick to fail over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from dashboard.demo.embedded import EmbeddedRedis, find_binary, reserved_port
from tests.conftest import start_server
from tests.processes import Child, child
from tests.waiting import wait_until

SERVICE = "mymaster"
QUORUM = 2
# After this time without an answer a Sentinel takes a primary for dead, and after this time a failover is tried again.
DOWN_AFTER_MS = 1_000
FAILOVER_MS = 5_000


class SentinelSet:
    """Two servers, of which one is the primary, and three Sentinels."""

    def __init__(self, servers: Sequence[EmbeddedRedis], sentinels: Sequence[tuple[int, Child]], options: str) -> None:
        self.servers = servers
        self.sentinels = sentinels
        self._options = options

    @property
    def hosts(self) -> list[str]:
        """The Sentinels as host:port."""
        return [f"127.0.0.1:{port}" for port, _ in self.sentinels]

    @property
    def url(self) -> str:
        """The URL for the dashboard."""
        return f"redis+sentinel://{','.join(self.hosts)}/{SERVICE}/0{self._options}"

    def primary(self) -> EmbeddedRedis:
        """The server that is the primary, as all Sentinels that run say."""
        ports = {self._named(port) for port, process in self.sentinels if process.is_alive}
        assert len(ports) == 1, ports
        return next(server for server in self.servers if server.port in ports)

    def fail_over(self, former: EmbeddedRedis) -> EmbeddedRedis:
        """The new primary, once all Sentinels name it and it accepts writes. The former one has to be down, or told."""
        wait_until(lambda: self._has_new(former), what="the failover")
        return self.primary()

    def order_failover(self) -> EmbeddedRedis:
        """Tell a Sentinel to fail over although the primary works; the new primary."""
        former = self.primary()
        with redis.Redis(port=self.sentinels[0][0]) as client:
            client.execute_command("SENTINEL FAILOVER", SERVICE)
        return self.fail_over(former)

    def _has_new(self, former: EmbeddedRedis) -> bool:
        ports = {self._named(port) for port, process in self.sentinels if process.is_alive}
        if len(ports) != 1 or former.port in ports:
            return False
        with redis.Redis(port=ports.pop()) as client:
            return client.role()[0] == b"master"

    @staticmethod
    def _named(port: int) -> int:
        with redis.Redis(port=port) as client:
            return int(client.sentinel_masters()[SERVICE]["port"])


@contextmanager
def sentinel_set(folder: Path, *, sentinel_lines: str = "", options: str = "") -> Iterator[SentinelSet]:
    """A running set. `sentinel_lines` are added to the settings of the Sentinels, `options` to the URL."""
    with ExitStack() as stack:
        servers = [stack.enter_context(start_server("redis-7", *_quick())) for _ in range(2)]
        primary, replica = servers
        with redis.Redis.from_url(replica.url) as client:
            client.replicaof("127.0.0.1", primary.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica in step")
        sentinels = []
        for number in range(3):
            port = stack.enter_context(reserved_port())
            file = folder / f"sentinel-{number}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {QUORUM}\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} {FAILOVER_MS}\n{sentinel_lines}"
            )
            command = [find_binary(), file, "--sentinel"]
            sentinels.append((port, stack.enter_context(child(command, name=f"sentinel {number}"))))
        made = SentinelSet(servers, sentinels, options)
        for port, _ in sentinels:
            wait_until(lambda port=port: _knows_all(port), what="Sentinels that know the replica and each other")
        yield made


def _quick() -> tuple[str, ...]:
    return ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def _knows_all(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            [state] = client.sentinel_masters().values()
    except redis.RedisError:
        return False
    return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)
