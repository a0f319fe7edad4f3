"""Where a command goes in a cluster: to the node that has its keys, to each node, or to any. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]


class Reach(Enum):
    """Which nodes a command without keys goes to."""

    EACH = "each"  # to each primary; the replies become one, see merging.py
    ANY = "any"  # to one, and the other nodes would answer the same
    SCAN = "scan"  # to the node in its cursor


# Commands without keys, besides CLIENT LIST, which goes to each node; all others have their first key after their name.
_REACH = {
    **dict.fromkeys(("INFO", "DBSIZE", "SLOWLOG", "LATENCY", "CONFIG"), Reach.EACH),
    **dict.fromkeys(("TIME", "PING", "ACL", "COMMAND", "CLUSTER", "ROLE", "CLIENT", "PUBLISH"), Reach.ANY),
    "SCAN": Reach.SCAN,
}
SCRIPTS = frozenset({"EVAL", "EVAL_RO"})
# Commands whose number of changed or existing keys can be added up, so that they may name keys of several slots.
ADDED_UP = frozenset({"EXISTS", "DEL", "UNLINK"})
_ALL_KEYS = ADDED_UP | {"MGET"}
_AFTER_A_WORD = frozenset({"MEMORY", "OBJECT", "XINFO"})


def reach_of(command: Command) -> Reach | None:
    """Which nodes a command without keys goes to; None for a command with keys."""
    name = str(command[0]).upper()
    if name in SCRIPTS:
        return None if keys_of(command) else Reach.ANY
    if name == "CLIENT" and command[1] == "LIST":
        return Reach.EACH
    return _REACH.get(name)


def keys_of(command: Command) -> tuple[bytes, ...]:
    """The keys of a command; of one that this module does not know, the argument after its name."""
    name = str(command[0]).upper()
    if name in SCRIPTS:
        return tuple(map(raw, command[3 : 3 + int(command[2])]))
    if name in _ALL_KEYS:
        return tuple(map(raw, command[1:]))
    at = 2 if name in _AFTER_A_WORD else 1
    return (raw(command[at]),) if at < len(command) else ()


def raw(argument: Argument) -> bytes:
    """An argument as Redis gets it."""
    if isinstance(argument, bytes):
        return argument
    return str(argument).encode("utf-8", "surrogateescape")
