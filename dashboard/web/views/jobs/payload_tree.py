"""A decoded payload as nodes for a tree of <details>, limited in size to keep pages small."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from ....clock import instant
from ...formatting import duration, printable

MAX_NODES = 1500
MAX_TEXT = 2000
# Initially open: the outer levels, if small enough to read at a glance.
OPEN_DEPTH = 2
OPEN_CHILDREN = 30
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PayloadNode:
    """One value. `kind`: object, array, string, number, word (true, false, null), or cut (more follows).

    `key` is its name or index in its parent, "" at the root; `size` = its real number of children; `duration` or `at`
    is what a number or text with a known unit means.
    """

    key: str
    kind: str
    text: str
    size: int = 0
    open: bool = False
    children: tuple[PayloadNode, ...] = ()
    duration: str = ""
    at: datetime | None = None


def build_tree(value: Any, units: Mapping[str, str] = NONE, names: Mapping[str, str] = NONE) -> PayloadNode:
    """The root node of a value decoded from JSON; at most MAX_NODES nodes.

    `units`: the path of a value, as in `backoff.delay`, -> "s", "ms", "epoch_ms" (a text is read as ISO) or "iso".
    `names`: the path of a value -> the name to show instead of its own.
    """
    return _Tree(units, names).build("", value, 0, "")


class _Tree:
    """What one tree may still have."""

    def __init__(self, units: Mapping[str, str], names: Mapping[str, str]) -> None:
        self._units = units
        self._names = names
        self._nodes_left = MAX_NODES

    def build(self, key: str, value: Any, depth: int, path: str) -> PayloadNode:
        self._nodes_left -= 1
        if isinstance(value, dict):
            return self._branch(key, "object", value.items(), len(value), depth, path)
        if isinstance(value, list):
            return self._branch(key, "array", enumerate(value), len(value), depth, path)
        unit = self._units.get(path, "")
        if isinstance(value, str):
            at = read_iso(value) if unit in ("iso", "epoch_ms") else None
            return PayloadNode(key, "string", printable(value, MAX_TEXT), at=at)
        if value is None or isinstance(value, bool):
            return PayloadNode(key, "word", {None: "null", True: "true", False: "false"}[value])
        shown = PayloadNode(key, "number", printable(str(value), MAX_TEXT))
        seconds = _seconds(value, unit)
        if seconds is None:
            return shown
        return replace(shown, at=instant(seconds)) if unit == "epoch_ms" else replace(shown, duration=duration(seconds))

    def _branch(
        self, key: str, kind: str, items: Iterable[tuple[Any, Any]], size: int, depth: int, path: str
    ) -> PayloadNode:
        children: list[PayloadNode] = []
        for name, child in items:
            if self._nodes_left <= 0:
                children.append(PayloadNode("", "cut", f"{size - len(children)} more: see the raw text"))
                break
            below = f"{path}.{name}" if path else str(name)
            shown = printable(self._names.get(below, str(name)), 200)
            children.append(self.build(shown, child, depth + 1, below if depth < 3 else ""))
        return PayloadNode(key, kind, "", size, depth < OPEN_DEPTH and size <= OPEN_CHILDREN, tuple(children))


def read_iso(text: str) -> datetime | None:
    """The instant of an ISO 8601 date and time; without an offset, it is UTC. None for anything else."""
    if not 16 <= len(text) <= 40 or text[10] != "T":
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _seconds(value: float, unit: str) -> float | None:
    """The value in seconds; None for 0 and below, which mean something else, and for a value without such a unit."""
    try:
        seconds = float(value) / {"s": 1, "ms": 1000, "epoch_ms": 1000}.get(unit, math.inf)
    except OverflowError:
        return None
    return seconds if 0 < seconds < math.inf else None
