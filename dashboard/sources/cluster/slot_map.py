"""Which node serves which hash slot. Pure.

Layout: https://redis.io/docs/latest/commands/cluster-slots/
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from ...settings.sentinel_urls import host_and_port

SLOTS = REDIS_CLUSTER_HASH_SLOTS
# What a cluster may have; Redis itself recommends at most 1,000 nodes.
MAX_NODES = 1_000
MAX_HOST = 255

Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SlotMap:
    """The primaries of a cluster, in the order of their lowest slots, and how many replicas each has."""

    primaries: tuple[Address, ...]
    replicas: dict[Address, int]
    first_slots: dict[Address, int]  # the lowest slot of each primary
    owners: list[Address | None] = field(repr=False)  # by slot

    @property
    def uncovered(self) -> int:
        """How many slots no node serves."""
        return self.owners.count(None)

    def owner(self, slot: int) -> Address | None:
        """The primary that serves `slot`; None if there is none."""
        return self.owners[slot]

    def after(self, moved: dict[int, Address]) -> SlotMap:
        """The map after the slots in `moved` have other nodes."""
        owners = list(self.owners)
        for slot, address in moved.items():
            if 0 <= slot < SLOTS:
                owners[slot] = address
        return _build(owners, self.replicas)

    def next_primary(self, address: Address) -> Address | None:
        """The primary after `address`, which is one; None after the last."""
        at = self.primaries.index(address) + 1
        return self.primaries[at] if at < len(self.primaries) else None


def slot_of(key: bytes) -> int:
    """The hash slot of a key."""
    return int(key_slot(key))


def has_hash_tag(key: bytes) -> bool:
    """Whether a part of the key in braces alone decides about its slot."""
    start = key.find(b"{")
    return start >= 0 and key.find(b"}", start) > start + 1


def parse_slots(reply: Any, asked: Address) -> SlotMap | None:
    """The map in a reply to CLUSTER SLOTS from the node `asked`; None if it is not one, or names no node.

    Rows that cannot be read are skipped: their slots have no node.
    """
    owners: list[Address | None] = [None] * SLOTS
    replicas: dict[Address, int] = {}
    for row in reply if isinstance(reply, list) else ():
        if not isinstance(row, list) or len(row) < 3:
            continue
        first, last, (primary, *others) = row[0], row[1], row[2:]
        address = _parse_node(primary, asked)
        if address is None or not _is_range(first, last) or len(replicas) >= MAX_NODES:
            continue
        owners[first : last + 1] = [address] * (last + 1 - first)
        replicas[address] = max(len(others), replicas.get(address, 0))
    return _build(owners, replicas) if replicas else None


def _build(owners: list[Address | None], replicas: dict[Address, int]) -> SlotMap:
    firsts: dict[Address, int] = {}
    previous: Address | None = None
    for slot, address in enumerate(owners):
        if address is not None and address is not previous and address not in firsts:
            firsts[address] = slot
        previous = address
    return SlotMap(tuple(firsts), {address: replicas.get(address, 0) for address in firsts}, firsts, owners)


def _is_range(first: Any, last: Any) -> bool:
    return isinstance(first, int) and isinstance(last, int) and 0 <= first <= last < SLOTS


def _parse_node(node: Any, asked: Address) -> Address | None:
    """Host and port of a node; a node that does not know its own address is at the one that was asked."""
    if not isinstance(node, list) or len(node) < 2:
        return None
    host, port = node[0], node[1]
    if host is None or host in (b"", b"?"):
        host = asked[0].encode()
    if not isinstance(host, bytes) or not isinstance(port, int) or not 0 < port < 65536:
        return None
    name = host.decode("utf-8", "replace")
    valid = 0 < len(name) <= MAX_HOST and name.isprintable() and not set(name) & set(" /@?#[]%")
    return (name, port) if valid else None


# A SCAN over all nodes continues on the node that serves a slot. Its cursor has three parts: the cursor of the node,
# which node that was, because a cursor means nothing to another one, and the slot.
_SLOT_BITS, _NODE_BITS = 14, 32


def scan_cursor(node_cursor: int, address: Address, slot: int) -> int:
    """The cursor with which a SCAN of the whole cluster continues at `node_cursor` of a node."""
    return (node_cursor << _NODE_BITS | _node_mark(address)) << _SLOT_BITS | slot


def scan_place(cursor: int, slots: SlotMap) -> tuple[Address, int]:
    """(node, its cursor) where a SCAN of the whole cluster continues.

    If another node serves the slot in the meantime, its keys are scanned from the start.
    """
    slot, rest = cursor % SLOTS, cursor >> _SLOT_BITS
    owner = slots.owner(slot) or slots.primaries[0]
    same = cursor > 0 and rest % (1 << _NODE_BITS) == _node_mark(owner)
    return owner, rest >> _NODE_BITS if same else 0


def next_scan_cursor(reply_cursor: int, address: Address, slots: SlotMap) -> int:
    """The cursor after a node answered SCAN with `reply_cursor`; 0 once all nodes have been scanned."""
    if reply_cursor:
        return scan_cursor(reply_cursor, address, slots.first_slots.get(address, 0))
    following = slots.next_primary(address) if address in slots.first_slots else None
    return 0 if following is None else scan_cursor(0, following, slots.first_slots[following])


def _node_mark(address: Address) -> int:
    return zlib.crc32(host_and_port(*address).encode())
