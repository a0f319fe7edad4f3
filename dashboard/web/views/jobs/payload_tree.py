"""A decoded payload as nodes for a tree of <details>, limited in size to keep pages small."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...formatting import printable

MAX_NODES = 1500
MAX_TEXT = 2000
# Initially open: the outer levels, if small enough to read at a glance.
OPEN_DEPTH = 2
OPEN_CHILDREN = 30


@dataclass(frozen=True, slots=True)
class PayloadNode:
    """One value. `kind`: object, array, string, number, word (true, false, null), or cut (more follows).

    `key` is its name or index in its parent, "" at the root; `size` = its real number of children.
    """

    key: str
    kind: str
    text: str
    size: int = 0
    open: bool = False
    children: tuple[PayloadNode, ...] = ()


def build_tree(value: Any) -> PayloadNode:
    """The root node of a value decoded from JSON; at most MAX_NODES nodes."""
    budget = [MAX_NODES]
    return _build_node("", value, 0, budget)


def _build_node(key: str, value: Any, depth: int, budget: list[int]) -> PayloadNode:
    budget[0] -= 1
    if isinstance(value, dict):
        return _build_branch(key, "object", value.items(), len(value), depth, budget)
    if isinstance(value, list):
        return _build_branch(key, "array", enumerate(value), len(value), depth, budget)
    if isinstance(value, str):
        return PayloadNode(key, "string", printable(value, MAX_TEXT))
    if value is None or isinstance(value, bool):
        return PayloadNode(key, "word", {None: "null", True: "true", False: "false"}[value])
    return PayloadNode(key, "number", printable(str(value), MAX_TEXT))


def _build_branch(
    key: str, kind: str, items: Iterable[tuple[Any, Any]], size: int, depth: int, budget: list[int]
) -> PayloadNode:
    children: list[PayloadNode] = []
    for name, child in items:
        if budget[0] <= 0:
            children.append(PayloadNode("", "cut", f"{size - len(children)} more: see the raw text"))
            break
        children.append(_build_node(printable(str(name), 200), child, depth + 1, budget))
    return PayloadNode(key, kind, "", size, depth < OPEN_DEPTH and size <= OPEN_CHILDREN, tuple(children))
