"""A Redis Cluster as one source: each command goes to the node that has its keys.

A batch is one round trip to each node that it concerns, to all of them at once. A command that a node redirects was not
executed, so it is sent again. A script never follows a redirection of a slot that is being moved: it would see a part
of the keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from msgspec.structs import replace
from redis.exceptions import AskError, ClusterDownError, MasterDownError, MovedError, ResponseError, TryAgainError

from ...errors import BackendUnavailable
from ...model import ClusterNode, RedisHealth
from ...settings import DEFAULT_STORE_PREFIX
from ...settings.redis_urls import redact_url
from ...settings.sentinel_urls import host_and_port
from ...settings.servers.cluster_urls import parse_cluster_url
from ..failures import ExplainedError, SlotMovingError, explain_failure, refusal_word
from ..info import info_fields, parse_info
from ..metering import current_meter
from ..request_timeouts import note_timeout, raise_if_timed_out
from ..source import PROBE, PROBE_TTL_MS, Argument, Command, Reply, Source, wire_format
from .commands import SCRIPTS, raw
from .health import describe_nodes, merge_health
from .merging import merge_replies
from .nodes import NodeError, Nodes, Step
from .orders import Order, choose_nodes, group_by_node, plan_batch
from .slot_map import Address, has_hash_tag, next_scan_cursor, scan_cursor, slot_of
from .topology import Topology

# How often a command is sent again because nodes redirect it: more only happens if they contradict each other.
MAX_REDIRECTIONS = 5
# How long a script that writes waits for its slot to arrive at another node, and how long between two tries.
MOVING_LIMIT_S, MOVING_WAIT_S = 1.0, 0.05
# In the text of an error in a script, on all versions.
_NOT_LOCAL = "non local key"
_UNREACHABLE = frozenset({"refused", "lost", "timeout"})
_HINT = (
    "The cluster may be choosing another primary. If this lasts, check whether this host can reach the addresses that "
    "the nodes announce."
)


class ClusterSource(Source):
    """One Redis Cluster, thread-safe. Opens no connection before the first command."""

    def __init__(self, name: str, url: str, prefix: str = DEFAULT_STORE_PREFIX) -> None:
        parsed = parse_cluster_url(url)
        super().__init__(name, parsed.node_url(*parsed.nodes[0]), prefix)
        self.address = redact_url(url)
        self._nodes = Nodes(parsed, self._clock)
        self.topology = Topology(self._nodes)
        self._described: tuple[ClusterNode, ...] = ()

    @property
    def is_cluster(self) -> bool:
        """Whether this is a Redis Cluster, of which each node has a part of the keys."""
        return True

    @property
    def nodes(self) -> tuple[ClusterNode, ...]:
        """The primaries of a cluster, as `read_health` found them last."""
        return self._described

    def slot_of(self, key: Argument) -> int:
        """The hash slot of a key."""
        return slot_of(raw(key))

    def keeps_together(self, _prefix: str) -> bool:
        """Whether the prefix has a hash tag, so that all keys that begin with it are in one slot."""
        return has_hash_tag(raw(_prefix))

    def batch_in_pieces(self, pieces: Sequence[Sequence[Command]]) -> list[Reply]:
        """See `Source.batch_in_pieces`. Cost: 1 round trip to each node that has keys of the commands, to all at once;
        1 more for commands that are redirected.
        """
        batch = plan_batch([self._with_own_prefix(piece) for piece in pieces])
        if not batch.orders:
            return []
        with self._translated_errors():
            choose_nodes(batch.orders, self.topology.current(), self.prefix)
            replies = batch.replies(self._run(batch.orders))
        self._check_all(replies)
        return replies

    def read_nodes(self, commands: Sequence[Command]) -> dict[Address, list[Reply]]:
        """The replies of each primary to `commands`, which must have no keys, in the order of their slots.

        Raises BackendUnavailable. Cost: 1 round trip to each, to all at once.
        """
        wires = [Step(number, wire_format(command)) for number, command in enumerate(commands)]
        with self._translated_errors():
            primaries = self.topology.current().primaries
            found = self._exchange({address: [wires] for address in primaries})
        return {
            address: [next(reply for sender, reply in found[step.number] if sender == address) for step in wires]
            for address in primaries
        }

    def read_health(self, *, probe: bool = False) -> RedisHealth:
        """See `Source.read_health` and `merge_health`. Cost: 1 round trip to each primary; 1 more with `probe`."""
        replies = self.read_nodes([("INFO",), ("DBSIZE",)])
        slots = self.topology.current()
        found: dict[Address, RedisHealth] = {}
        for address, (info, keys) in replies.items():
            if isinstance(info, ResponseError):
                found[address] = RedisHealth(keys=keys if isinstance(keys, int) else None)
                continue
            if info_fields(info).get("role") == "slave":
                self.topology.note_change()
            found[address] = parse_info(info, keys if isinstance(keys, int) else None)
        self._described = describe_nodes(found, slots)
        merged = merge_health(list(found.values()))
        if not probe:
            return merged
        written = self.run_batch([("SET", PROBE, "1", "PX", PROBE_TTL_MS)])[0]
        return replace(merged, write_probe=refusal_word(written))

    def now_s(self) -> float:
        """Seconds since 1970 by the clock of a node; see `Source.now_s`.

        Cost: none, or 1 round trip once a minute.
        """
        if self._clock.claim_first_reading() or self._clock.is_due():
            try:
                self._clock.note_time(self.run_batch([("TIME",)])[0])
            except BackendUnavailable:
                self._clock.note_time(None)  # not asked again for a while
        return self._clock.now_s()

    def scan_shares(self, steps: int) -> list[tuple[int, int]]:
        """See `Source.scan_shares`: more steps for nodes with more keys, at least one for each."""
        slots = self.topology.last
        if slots is None or not self._described:
            return [(0, steps)]
        sizes = {node.address: node.keys or 0 for node in self._described}
        total = sum(sizes.values()) or 1
        shares = []
        for address in slots.primaries:
            share = round(steps * sizes.get(host_and_port(*address), 0) / total)
            shares.append((scan_cursor(0, address, slots.first_slots[address]), max(1, share)))
        return shares

    def run_transaction(self, _work: Callable[[redis.Redis], Any]) -> Any:
        """Not for clusters: what needs a connection of its own does not run there. Raises BackendUnavailable."""
        raise self.unavailable_error(
            ExplainedError("protocol", "This is not available on a Redis Cluster", "Use a Redis without cluster mode.")
        )

    def check_writable(self, reply: Reply) -> None:
        """See `Source.check_writable`; also raises while the keys are being moved to another node."""
        if isinstance(reply, SlotMovingError):
            raise self.unavailable_error(reply)
        super().check_writable(reply)

    def close(self) -> None:
        """Close all connections; the source can be used again afterwards."""
        super().close()
        self._nodes.close()

    def _run(self, orders: list[Order]) -> list[Reply]:
        """The replies to all orders, by their numbers, after following redirections."""
        replies: list[Reply] = [None] * len(orders)
        left, redirections, wait_until = orders, 0, time.monotonic() + MOVING_LIMIT_S
        while left:
            found = self._exchange(group_by_node(left))
            again: list[Order] = []
            moved: dict[int, Address] = {}
            waits = False
            for order in left:
                reply = merge_replies(order.command, [reply for _, reply in found[order.number]])
                if _redirect(order, reply, moved):
                    again.append(order)
                elif _is_moving(order, reply) and time.monotonic() < wait_until:
                    again.append(order)
                    waits = True
                else:
                    replies[order.number] = self._final_reply(order, reply)
            self.topology.note_moved(moved)
            redirections += not waits
            if again and redirections > MAX_REDIRECTIONS:
                hint = "This is normal for seconds after slots were moved. If it lasts, check CLUSTER NODES."
                raise ExplainedError("refused", "The nodes of the cluster contradict each other about its slots", hint)
            if waits:
                time.sleep(MOVING_WAIT_S)
            left = again
        return replies

    def _final_reply(self, order: Order, reply: Reply) -> Reply:
        """The reply for the caller: of SCAN with a cursor for the whole cluster, of a moved slot with a clear error."""
        if isinstance(reply, ResponseError):
            not_local = order.command[0] in SCRIPTS and _NOT_LOCAL in str(reply)
            if not_local or isinstance(reply, AskError | TryAgainError):
                self.topology.note_change()
                return SlotMovingError(order.slot)
        elif order.command[0] == "SCAN":
            following = next_scan_cursor(int(reply[0]), order.targets[0], self.topology.current())
            return [b"%d" % following, reply[1]]
        return reply

    def _exchange(self, orders: dict[Address, list[list[Step]]]) -> dict[int, list[tuple[Address, Any]]]:
        """See `Nodes.exchange`; metered."""
        raise_if_timed_out(self.address, self.name)
        started = time.perf_counter()
        try:
            found = self._nodes.exchange(orders)
            self._way_s = min(self._way_s, time.perf_counter() - started)
            return found
        finally:
            meter = current_meter()
            if meter is not None:
                pieces = [piece for node in orders.values() for piece in node]
                largest = max(sum(len(step.wire) for step in piece) for piece in pieces)
                seconds = time.perf_counter() - started
                meter.add(sum(map(len, pieces)), seconds, largest, min(self._way_s, seconds), len(pieces))

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise the errors of nodes as BackendUnavailable, and ask for the nodes again before the next command."""
        try:
            yield
        except NodeError as exc:
            self.topology.note_change()
            failure = self._node_failure(exc)
            note_timeout(self.address, failure)
            raise failure from exc
        except (ExplainedError, ClusterDownError) as exc:
            self.topology.note_change()
            failure = self.unavailable_error(exc)
            note_timeout(self.address, failure)
            raise failure from exc

    def _node_failure(self, exc: NodeError) -> BackendUnavailable:
        cause = exc.__cause__
        assert isinstance(cause, Exception)
        reason, message, hint = explain_failure(cause, f"the node {exc} of {self.address}")
        hint = _HINT if reason in _UNREACHABLE else hint
        return BackendUnavailable(message[:1].upper() + message[1:], source=self.name, reason=reason, hint=hint)


def _redirect(order: Order, reply: Reply, moved: dict[int, Address]) -> bool:
    """Whether a node redirected `order`, which then has another target; adds to `moved` if it is that of the slot.

    Raises ClusterDownError.
    """
    if isinstance(reply, ClusterDownError) and not isinstance(reply, MasterDownError):
        raise reply
    is_moved = isinstance(reply, MovedError)
    # A script would see only those of its keys that have arrived.
    if not isinstance(reply, AskError) or (order.command[0] in SCRIPTS and not is_moved):
        return False
    address = (reply.host or order.targets[0][0], reply.port)  # without a host: that of the node which answered
    if is_moved:
        moved[reply.slot_id] = address
    order.targets, order.asking = [address], not is_moved
    return True


def _is_moving(order: Order, reply: Reply) -> bool:
    """Whether a command has to wait for its slot. A script that only reads has plain commands in its place: see
    `Scripts.run`.
    """
    return isinstance(reply, AskError | TryAgainError) and order.command[0] != "EVAL_RO"
