"""The commands of a batch on their way through a cluster: which node each goes to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..source import Command, wire_format
from .commands import ADDED_UP, Reach, keys_of, raw, reach_of
from .merging import merge_replies
from .nodes import ASKING, Step
from .slot_map import Address, SlotMap, scan_place, slot_of


@dataclass(slots=True)
class Order:
    """One command for one node, or for each: its number in the batch, and the piece of the batch it belongs to."""

    number: int
    piece: int
    command: Command
    targets: list[Address] = field(default_factory=list)
    asking: bool = False  # the target answers although the slot is not its own yet
    wire: bytes = b""

    @property
    def slot(self) -> int:
        """The hash slot of its first key; 0 without keys."""
        return slot_of(next(iter(keys_of(self.command)), b""))


class Batch(NamedTuple):
    """The orders of a batch, and which of them each of its commands became."""

    orders: list[Order]
    layout: list[tuple[Command, range]]

    def replies(self, of_orders: Sequence[Any]) -> list[Any]:
        """One reply per command, from those to the orders."""
        return [
            of_orders[numbers[0]] if len(numbers) == 1 else merge_replies(command, [of_orders[n] for n in numbers])
            for command, numbers in self.layout
        ]


def plan_batch(pieces: Sequence[Sequence[Command]]) -> Batch:
    """The orders for `pieces`; a command whose reply can be added up is an order for each key if its keys are in
    several slots.
    """
    batch = Batch([], [])
    for number, piece in enumerate(pieces):
        for command in piece:
            parts: list[Command] = [command]
            if command[0] in ADDED_UP and len({slot_of(key) for key in keys_of(command)}) > 1:
                parts = [(command[0], key) for key in keys_of(command)]
            first = len(batch.orders)
            batch.orders.extend(Order(first + n, number, part) for n, part in enumerate(parts))
            batch.layout.append((command, range(first, first + len(parts))))
    return batch


def choose_nodes(orders: Sequence[Order], slots: SlotMap, own_prefix: str) -> None:
    """Set the targets of `orders`. A command that every node can answer goes with the next one that has a target, or
    with the one before; if there is none, to the node with Queuedeck's own keys.
    """
    undecided: list[Order] = []
    near: Address | None = None
    for order in orders:
        order.targets = _targets(order, slots)
        if not order.targets:
            undecided.append(order)
            continue
        near = order.targets[0]
        for each in undecided:
            each.targets = [near]
        undecided = []
    for each in undecided:
        each.targets = [near or slots.owner(slot_of(raw(own_prefix))) or slots.primaries[0]]


def _targets(order: Order, slots: SlotMap) -> list[Address]:
    """The nodes that have to get a command, with `wire` set; () for one that every node can answer."""
    command = order.command
    reach = reach_of(command)
    if reach is Reach.SCAN:
        address, cursor = scan_place(int(command[1]), slots)
        order.wire = wire_format((command[0], cursor, *command[2:]))
        return [address]
    order.wire = wire_format(command)
    if reach is Reach.EACH:
        return list(slots.primaries)
    # A node that does not serve the slot answers that the cluster is down.
    return [slots.owner(order.slot) or slots.primaries[0]] if reach is None else []


def group_by_node(orders: Sequence[Order]) -> dict[Address, list[list[Step]]]:
    """The pieces for each node."""
    found: dict[Address, dict[int, list[Step]]] = {}
    for order in orders:
        for address in order.targets:
            piece = found.setdefault(address, {}).setdefault(order.piece, [])
            if order.asking:
                piece.append(ASKING)
            piece.append(Step(order.number, order.wire))
    return {address: [pieces[number] for number in sorted(pieces)] for address, pieces in found.items()}
