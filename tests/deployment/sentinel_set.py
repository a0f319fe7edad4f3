"""Real Redis servers monitored by three real Sentinels, with short times for a failover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from dashboard.demo.embedded import EmbeddedRedis, find_binary, reserved_port
from tests.certificates import make_certificate
from tests.conftest import start_server
from tests.processes import Child, child
from tests.waiting import wait_until

SERVICE = "mymaster"
QUORUM = 2
# After this time without an answer a Sentinel takes a primary for dead, and after this time a failover is tried again.
DOWN_AFTER_MS = 1_000
FAILOVER_MS = 5_000


@dataclass(frozen=True)
class Protection:
    """Passwords of the servers and of the Sentinels, and the certificate and key that both use for TLS."""

    password: str
    sentinel_password: str
    certificate: Path
    key: Path

    def server_options(self, tls_port: int) -> list[str]:
        """Of a server that replicates over TLS."""
        files = ("--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key))
        return [
            *("--tls-port", str(tls_port), "--tls-auth-clients", "no", "--tls-replication", "yes"),
            *("--requirepass", self.password, "--masterauth", self.password),
            *(*files, "--tls-ca-cert-file", str(self.certificate)),
        ]

    def sentinel_lines(self, port: int) -> str:
        """Of a Sentinel that speaks TLS only."""
        return (
            f"port 0\ntls-port {port}\ntls-auth-clients no\ntls-replication yes\n"
            f"tls-cert-file {self.certificate}\ntls-key-file {self.key}\ntls-ca-cert-file {self.certificate}\n"
            f'requirepass "{self.sentinel_password}"\nsentinel sentinel-pass "{self.sentinel_password}"\n'
        )


class SentinelSet:
    """Servers, of which one is the primary, and three Sentinels."""

    def __init__(
        self,
        servers: dict[int, EmbeddedRedis],
        sentinels: Sequence[tuple[int, Child]],
        protection: Protection | None,
    ) -> None:
        """`servers`: by the port that the Sentinels name."""
        self._servers = servers
        self.servers = list(servers.values())
        self.sentinels = sentinels
        self._protection = protection

    @property
    def hosts(self) -> list[str]:
        """The Sentinels as host:port."""
        return [f"127.0.0.1:{port}" for port, _ in self.sentinels]

    @property
    def url(self) -> str:
        """The URL for the dashboard, if nothing is protected."""
        return f"redis+sentinel://{','.join(self.hosts)}/{SERVICE}/0"

    def primary(self) -> EmbeddedRedis:
        """The primary according to all running Sentinels."""
        ports = self._named_ports()
        assert len(ports) == 1, ports
        return self._servers[ports.pop()]

    def client_of(self, server: EmbeddedRedis) -> redis.Redis:
        """A client of one of the servers."""
        password = self._protection.password if self._protection else None
        return redis.Redis(port=server.port, password=password, decode_responses=True)

    def sentinel_client(self, port: int) -> redis.Redis:
        """A client of one of the Sentinels."""
        return _sentinel_client(port, self._protection)

    def fail_over(self, former: EmbeddedRedis) -> EmbeddedRedis:
        """Wait until all running Sentinels name a new primary that accepts writes, and return it."""

        def has_new() -> bool:
            ports = self._named_ports()
            if len(ports) != 1 or self._servers[next(iter(ports))] is former:
                return False
            with self.client_of(self._servers[ports.pop()]) as client:
                return bool(client.role()[0] == "master")

        wait_until(has_new, what="the failover")
        return self.primary()

    def order_failover(self) -> EmbeddedRedis:
        """Tell a Sentinel to fail over although the primary works; the new primary."""
        former = self.primary()
        with self.sentinel_client(self.sentinels[0][0]) as client:
            client.execute_command("SENTINEL FAILOVER", SERVICE)
        return self.fail_over(former)

    def wait_for_replica(self) -> None:
        """Return once the replica has all that the primary has."""
        [replica] = [server for server in self.servers if server is not self.primary()]
        with self.client_of(self.primary()) as first, self.client_of(replica) as second:

            def is_in_step() -> bool:
                here, there = first.info("replication"), second.info("replication")
                return there["role"] == "slave" and here["master_repl_offset"] == there["slave_repl_offset"]

            wait_until(is_in_step, what="the replica in step")

    def _named_ports(self) -> set[int]:
        ports = set()
        for port, process in self.sentinels:
            if process.is_alive:
                with self.sentinel_client(port) as client:
                    ports.add(int(client.sentinel_masters()[SERVICE]["port"]))
        return ports


@contextmanager
def sentinel_set(folder: Path, protection: Protection | None = None, *, replicas: int = 1) -> Iterator[SentinelSet]:
    """A running set, whose files are in `folder`."""
    with ExitStack() as stack:
        servers: dict[int, EmbeddedRedis] = {}
        for _ in range(1 + replicas):
            tls_port = stack.enter_context(reserved_port()) if protection else None
            options = protection.server_options(tls_port) if protection and tls_port else []
            quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
            server = stack.enter_context(start_server("redis-7", *quick, *options))
            servers[tls_port or server.port] = server
        first, *others = servers
        made = SentinelSet(servers, [], protection)
        for other in others:
            with made.client_of(servers[other]) as client:
                client.replicaof("127.0.0.1", first)
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica in step")
        made.sentinels = [stack.enter_context(_sentinel(folder, first, QUORUM, protection)) for _ in range(3)]
        for port, _ in made.sentinels:
            wait_until(
                lambda port=port: _knows_all(made, port, replicas),
                what="Sentinels that know the replica and each other",
            )
        yield made


@contextmanager
def lone_sentinel(folder: Path, monitored: int, port: int | None = None) -> Iterator[str]:
    """host:port of a Sentinel that considers the server at the port `monitored` the primary, and never down. `port`:
    one that is reserved for it; else any."""
    with _sentinel(folder, monitored, 1, None, down_after_ms=3_600_000, port=port) as (found, _):
        yield f"127.0.0.1:{found}"


@contextmanager
def _sentinel(
    folder: Path,
    monitored: int,
    quorum: int,
    protection: Protection | None,
    *,
    down_after_ms: int = DOWN_AFTER_MS,
    port: int | None = None,
) -> Iterator[tuple[int, Child]]:
    """The port and the process of a Sentinel."""
    with reserved_port() if port is None else nullcontext(port) as port:
        file = folder / f"sentinel-{port}.conf"
        file.write_text(
            f"bind 127.0.0.1\ndir {folder}\n{protection.sentinel_lines(port) if protection else f'port {port}'}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {monitored} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\n"
            f"sentinel failover-timeout {SERVICE} {FAILOVER_MS}\n"
            + (f'sentinel auth-pass {SERVICE} "{protection.password}"\n' if protection else "")
        )
        with child([find_binary(), file, "--sentinel"], name=f"sentinel {port}") as process:
            wait_until(lambda: _sentinel_client(port, protection).ping(), what="the Sentinel")
            yield port, process


def _sentinel_client(port: int, protection: Protection | None) -> redis.Redis:
    options: dict[str, Any] = {}
    if protection:
        options = {"password": protection.sentinel_password, "ssl": True, "ssl_ca_certs": str(protection.certificate)}
    return redis.Redis(host="127.0.0.1", port=port, **options)


def _knows_all(made: SentinelSet, port: int, replicas: int) -> bool:
    with made.sentinel_client(port) as client:
        [state] = client.sentinel_masters().values()
    return bool(state["num-slaves"] == replicas and state["num-other-sentinels"] == 2)


def make_protection(folder: Path) -> Protection:
    """Passwords with characters that a URL has to encode, and a certificate."""
    return Protection("of redis/1", "of:sentinels", *make_certificate(folder))
