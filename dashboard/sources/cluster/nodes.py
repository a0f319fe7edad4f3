"""Connections to the nodes of a cluster: commands go to several nodes at once, then the replies are read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from ...settings.sentinel_urls import host_and_port
from ...settings.servers.cluster_urls import ClusterUrl
from ..connection import PIECE_EVERY_S, Connections
from ..failures import UNKNOWN_COMMAND, CommandMissing
from ..server_clock import ServerClock
from .slot_map import Address


class NodeError(Exception):
    """A node could not be reached, or did not answer as it should; its cause says how."""

    def __init__(self, address: Address) -> None:
        super().__init__(host_and_port(*address))
        self.address = address


class Step(NamedTuple):
    """One command for one node, in wire format, with the number under which its reply is returned."""

    number: int
    wire: bytes


# In front of a command that the node may answer although the slot is not its own yet; its reply is dropped.
ASKING = Step(-1, b"*1\r\n$6\r\nASKING\r\n")


class NodeConnections(Connections):
    """The connections to one node."""

    def take(self) -> Any:
        """A connection for one exchange; `give_back` it. Raises redis.RedisError and OSError."""
        connection = self._pool.get_connection()
        if not self.renewal.is_current(connection):
            connection.disconnect()  # type: ignore[no-untyped-call]
        return connection

    def give_back(self, connection: Any, *, is_clean: bool) -> None:
        """Return a connection; one with unread replies is closed."""
        if not is_clean:
            connection.disconnect()
        self._pool.release(connection)

    def close_idle(self) -> None:
        """Close the connections that no other thread uses."""
        self._pool.disconnect(inuse_connections=False)


class Nodes:
    """The nodes of one cluster, by address. Thread-safe. Opens no connection before the first command."""

    def __init__(self, url: ClusterUrl, clock: ServerClock) -> None:
        """`clock`: set by each new connection; the clocks of the nodes must agree, for their own sake."""
        self.url = url
        self._clock = clock
        self._known: dict[Address, NodeConnections] = {}

    def connections(self, address: Address) -> NodeConnections:
        """The connections to a node; new ones for a node that was not used before."""
        found = self._known.get(address)
        if found is None:
            # setdefault: another thread may have added it.
            made = NodeConnections(self.url.node_url(*address), self._clock)
            found = self._known.setdefault(address, made)
        return found

    def keep_only(self, addresses: Sequence[Address]) -> None:
        """Forget the nodes that do not belong to the cluster any more."""
        kept = {*addresses, *self.url.nodes}
        for address in [each for each in self._known if each not in kept]:
            self._known.pop(address).close_idle()

    def close(self) -> None:
        """Close all connections; new ones can be opened afterwards."""
        for connections in list(self._known.values()):
            connections.close()

    def exchange(self, orders: dict[Address, list[list[Step]]]) -> dict[int, list[tuple[Address, Any]]]:
        """Send to each node its pieces, and return the replies by the numbers of the steps; an error reply in place of
        the reply.

        As in `Connections.exchange`, a piece is sent when the one before is answered, or after a short time. Raises
        NodeError for the first node that fails; the replies of the others are lost then.
        """
        talks = [_Talk(self.connections(address), address, pieces) for address, pieces in orders.items()]
        rounds = max(len(talk.pieces) for talk in talks)
        replies: dict[int, list[tuple[Address, Any]]] = {}
        try:
            for number in range(rounds):
                for talk in talks:
                    talk.send(number)
                if number < rounds - 1:
                    next_at = time.perf_counter() + PIECE_EVERY_S
                    for talk in talks:
                        talk.read(replies, next_at)
            for talk in talks:
                talk.read(replies, None)
        finally:
            for talk in talks:
                talk.close()
        return replies


class _Talk:
    """What is said to one node and not yet answered."""

    def __init__(self, connections: NodeConnections, address: Address, pieces: list[list[Step]]) -> None:
        self.pieces = pieces
        self._connections = connections
        self._address = address
        self._connection: Any = None
        self._awaited: list[int] = []  # the numbers of the steps that were sent, in order
        self._read = 0

    def send(self, number: int) -> None:
        """Send a piece, if there is one of that number."""
        if number >= len(self.pieces):
            return
        with self._failures():
            if self._connection is None:
                self._connection = self._connections.take()
            # Before they are sent: after a failure half way the connection must not be used again.
            self._awaited += [step.number for step in self.pieces[number]]
            wire = b"".join(step.wire for step in self.pieces[number])
            self._connection.send_packed_command([wire], check_health=False)

    def read(self, replies: dict[int, list[tuple[Address, Any]]], until: float | None) -> None:
        """Read the replies, all of them or those that come in time. `until`: by perf_counter."""
        with self._failures():
            while self._read < len(self._awaited):
                if until is not None and not self._connection.can_read(max(0.0, until - time.perf_counter())):
                    return
                reply = self._next_reply()
                number = self._awaited[self._read]
                self._read += 1
                if number != ASKING.number:
                    replies.setdefault(number, []).append((self._address, reply))

    def _next_reply(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as exc:
            unknown = UNKNOWN_COMMAND.match(str(exc))
            return CommandMissing(unknown.group(1)) if unknown else exc

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connections.give_back(self._connection, is_clean=self._read == len(self._awaited))
            self._connection = None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as exc:
            raise NodeError(self._address) from exc
