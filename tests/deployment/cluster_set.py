"""A real Redis Cluster: three primaries, each with a replica."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.crc import key_slot

from dashboard.demo.embedded import EmbeddedRedis, reserved_port
from tests.conftest import SERVERS
from tests.deployment.sentinel_set import Protection
from tests.waiting import wait_until

SLOTS, PRIMARIES = 16_384, 3
# Nothing fails over by itself, however busy the machine is: a test does it.
NODE_TIMEOUT_MS = 600_000
_OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-announce-ip", "127.0.0.1"),
    *("--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"),
    *("--cluster-require-full-coverage", "no"),
)


@dataclass
class Node:
    """One server of a cluster, its port for the other nodes, and its id."""

    server: EmbeddedRedis
    bus_port: int
    port: int
    id: str


class ClusterSet:
    """The nodes of a cluster. The first three were the primaries when it started, the others their replicas."""

    def __init__(self, nodes: Sequence[Node], protection: Protection | None = None) -> None:
        self.nodes = nodes
        self._protection = protection
        self._password = protection.password if protection else None

    @property
    def hosts(self) -> list[str]:
        """host:port of the first two nodes."""
        return [f"127.0.0.1:{node.port}" for node in self.nodes[:2]]

    @property
    def url(self) -> str:
        """The URL for the dashboard, if nothing is protected."""
        return f"redis+cluster://{','.join(self.hosts)}"

    @property
    def driver_url(self) -> str:
        """The URL for the workload of BullMQ, with one node."""
        host, protection = self.hosts[0], self._protection
        if protection is None:
            return f"redis+cluster://{host}"
        return f"rediss+cluster://:{quote(protection.password, safe='')}@{host}?ca={quote(str(protection.certificate))}"

    def client_of(self, node: Node) -> redis.Redis:
        """A client of one node."""
        return redis.Redis(port=node.server.port, password=self._password)

    def client(self) -> redis.RedisCluster:
        """A client of the cluster."""
        options: dict[str, Any] = {"password": self._password}
        if self._protection is not None:
            options |= {"ssl": True, "ssl_ca_certs": str(self._protection.certificate)}
        return redis.RedisCluster(host="127.0.0.1", port=self.primaries()[0].port, **options)

    def primaries(self) -> list[Node]:
        """The running primaries."""
        return [node for node in self.nodes if node.server.is_running and self._role(node) == "master"]

    def owner(self, key: str | bytes) -> Node:
        """The primary that serves a key."""
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        for first, last, primary, *_ in self._shards(self.primaries()[0]):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == primary[1])
        raise AssertionError(f"slot {slot} has no node")

    def replica_of(self, primary: Node) -> Node:
        """The running replica of a primary; waits for one."""
        found = wait_until(lambda: [node for node in self.nodes if self._is_replica(node, primary)], what="a replica")
        return found[0]

    def _is_replica(self, node: Node, primary: Node) -> bool:
        if not node.server.is_running or node is primary:
            return False
        with self.client_of(node) as client:
            state = client.info("replication")
        return bool(state["role"] == "slave" and int(state["master_port"]) == primary.port)

    def wait_for_replica(self, primary: Node) -> Node:
        """The replica of a primary, once it has all that the primary has."""
        replica = self.replica_of(primary)
        with self.client_of(primary) as first, self.client_of(replica) as second:

            def is_in_step() -> bool:
                here, there = first.info("replication"), second.info("replication")
                return bool(here["master_repl_offset"] == there["slave_repl_offset"])

            wait_until(is_in_step, what="the replica in step")
        return replica

    def kill_and_take_over(self, primary: Node) -> Node:
        """Kill a primary; its replica, which takes its place."""
        replica = self.wait_for_replica(primary)
        primary.server.stop(kill=True)
        with self.client_of(replica) as client:
            client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
        self._wait_until_known(replica)
        return replica

    def start_as_replica(self, former: Node, primary: Node) -> None:
        """Start a killed node again, of which `primary` took the place."""
        former.server.start()
        wait_until(lambda: self._is_replica(former, primary), what="the former primary as a replica")

    def wait_until_replicas_are_listed(self) -> None:
        """Wait until each node names a replica of each primary: they learn of a return one after the other."""

        def are_listed() -> bool:
            views = [self._shards(node) for node in self.nodes if node.server.is_running]
            # First slot, last slot, the primary and its replica.
            return all(len(row) == 4 for rows in views for row in rows)

        wait_until(are_listed, what="all replicas in CLUSTER SLOTS of each node")

    def _shards(self, node: Node) -> Any:
        with self.client_of(node) as client:
            return client.execute_command("CLUSTER", "SLOTS")

    def switch_roles(self, primary: Node) -> Node:
        """Let a primary and its replica change places, without losing anything; the new primary."""
        replica = self.wait_for_replica(primary)
        with self.client_of(replica) as client:
            client.execute_command("CLUSTER FAILOVER")
        wait_until(lambda: self._role(replica) == "master", what="the new primary")
        self._wait_until_known(replica)
        return replica

    def start_moving(self, slot: int, source: Node, target: Node) -> None:
        """Begin to move a slot; its keys stay until they are moved."""
        with self.client_of(target) as client:
            client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        with self.client_of(source) as client:
            client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, slot: int, source: Node, target: Node, count: int = 100_000) -> None:
        """Move keys of a slot that is being moved."""
        with self.client_of(source) as client:
            keys = client.execute_command("CLUSTER GETKEYSINSLOT", slot, count)
            if keys:
                client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", *keys)

    def finish_moving(self, slot: int, source: Node, target: Node) -> None:
        """Move the rest of a slot, which then belongs to `target`."""
        self.move_keys(slot, source, target)
        for node in (target, source, *(each for each in self.primaries() if each not in (source, target))):
            with self.client_of(node) as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", target.id)

    def stop_moving(self, slot: int, *nodes: Node) -> None:
        """Forget that a slot was to be moved."""
        for node in nodes:
            with self.client_of(node) as client:
                client.execute_command("CLUSTER SETSLOT", slot, "STABLE")

    def _role(self, node: Node) -> str:
        with self.client_of(node) as client:
            return str(client.info("replication")["role"])

    def _wait_until_known(self, primary: Node) -> None:
        def is_known() -> bool:
            views = [self._shards(node) for node in self.nodes if node.server.is_running]
            return all(any(row[2][1] == primary.port for row in rows) for rows in views)

        wait_until(is_known, what="all nodes that know the new primary")


@contextmanager
def cluster_set(folder: Path, protection: Protection | None = None, *, replicas: bool = True) -> Iterator[ClusterSet]:
    """A running cluster, whose files are in `folder`; with `protection`, over TLS and with passwords only."""
    with ExitStack() as stack:
        nodes = []
        for number in range(PRIMARIES * (2 if replicas else 1)):
            server = EmbeddedRedis(SERVERS["redis-7"]())
            stack.callback(server.close)
            tls_port = stack.enter_context(reserved_port()) if protection else None
            bus_port, name = stack.enter_context(reserved_port()), f"{number:040x}"
            server.options = (
                *(*_OPTIONS, "--cluster-port", str(bus_port), "--cluster-config-file", str(folder / f"{name}.conf")),
                *(protection.server_options(tls_port) if protection and tls_port else ()),
                *(("--tls-cluster", "yes") if protection else ()),
            )
            nodes.append(Node(server, bus_port, tls_port or server.port, name))
        made = ClusterSet(nodes, protection)
        for node in nodes:
            (folder / f"{node.id}.conf").write_text(_configuration(nodes, node))
            node.server.start()
        wait_until(lambda: all(_is_ready(made, node) for node in nodes), what="a cluster that is ready")
        yield made


def _configuration(nodes: Sequence[Node], of: Node) -> str:
    """The file from which a node learns the others: introducing them to each other takes ten seconds."""
    share = -(-SLOTS // PRIMARIES)
    lines = []
    for number, node in enumerate(nodes):
        myself = "myself," if node is of else ""
        role, slots = f"{myself}master -", f" {number * share}-{min(SLOTS, (number + 1) * share) - 1}"
        if number >= PRIMARIES:
            role, slots = f"{myself}slave {nodes[number - PRIMARIES].id}", ""
        epoch = number % PRIMARIES + 1
        lines.append(f"{node.id} 127.0.0.1:{node.port}@{node.bus_port} {role} 0 0 {epoch} connected{slots}\n")
    return "".join([*lines, f"vars currentEpoch {PRIMARIES} lastVoteEpoch 0\n"])


def _is_ready(made: ClusterSet, node: Node) -> bool:
    with made.client_of(node) as client:
        state = client.execute_command("CLUSTER", "INFO")
        link = client.info("replication").get("master_link_status", "up")
    return b"cluster_state:ok" in state and link == "up"
