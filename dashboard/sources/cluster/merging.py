"""One reply from the replies of all nodes of a cluster. Pure.

What cannot be merged is an error or unknown, never the value of one node as if it were that of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from ..info import info_fields
from .commands import ADDED_UP, Command

# Fields of INFO that are added up; of all others, those that are the same on all nodes remain.
_SUMS = frozenset(
    {
        *("used_memory", "used_memory_rss", "used_memory_dataset", "used_memory_overhead", "mem_not_counted_for_evict"),
        *("connected_clients", "blocked_clients", "instantaneous_ops_per_sec", "evicted_keys", "rejected_connections"),
        *("keyspace_hits", "keyspace_misses", "connected_slaves", "total_commands_processed", "expired_keys"),
    }
)
# The one that is true of all nodes: clocks and uptimes differ, and a feature needs the oldest version.
_LEAST = frozenset({"uptime_in_seconds", "server_time_usec"})
_VERSIONS = frozenset({"redis_version", "valkey_version"})
_NAME = re.compile(rb"(?:^| )name=(\S+)")
_DIGITS = re.compile(r"\d+")


def merge_replies(command: Command, replies: Sequence[Any]) -> Any:
    """One reply to `command`, which went to several nodes; the first error if one of them refused it."""
    refused = next((reply for reply in replies if isinstance(reply, ResponseError)), None)
    if refused is not None:
        return refused
    if len(replies) == 1:
        return replies[0]
    name = str(command[0]).upper()
    if name in ADDED_UP or name == "DBSIZE":
        return sum(replies)
    return _MERGES[name](command, replies)


def _merge_info(_command: Command, replies: Sequence[Any]) -> bytes:
    nodes = [info_fields(reply) for reply in replies]
    lines = []
    for name in nodes[0]:
        values = [node.get(name) for node in nodes]
        value = None if None in values else _merge_field(name, [value for value in values if value is not None])
        if value is not None:
            lines.append(f"{name}:{value}\r\n")
    return "".join(lines).encode()


def _merge_field(name: str, values: list[str]) -> str | None:
    if name in _SUMS or name in _LEAST:
        if not all(value.isascii() and value.isdecimal() and len(value) < 19 for value in values):
            return None
        return str((sum if name in _SUMS else min)(map(int, values)))
    if name in _VERSIONS:
        return min(values, key=lambda value: [int(number) for number in _DIGITS.findall(value[:50])])
    return values[0] if len(set(values)) == 1 else None


def _merge_clients(_command: Command, replies: Sequence[Any]) -> bytes:
    """The connections to all nodes. A worker has connections of the same name to several of them: of each name, those
    to the node with the most, as BullMQ itself counts its workers.
    """
    lines: list[bytes] = []
    by_name: dict[bytes, list[bytes]] = {}
    for reply in replies:
        here: dict[bytes, list[bytes]] = {}
        for line in reply.splitlines():
            found = _NAME.search(line)
            if found is None:
                lines.append(line)
            else:
                here.setdefault(found[1], []).append(line)
        for name, own in here.items():
            if len(own) > len(by_name.get(name, ())):
                by_name[name] = own
    return b"\n".join([*lines, *(line for own in by_name.values() for line in own)]) + b"\n"


def _merge_slow_log(command: Command, replies: Sequence[Any]) -> Any:
    if str(command[1]).upper() != "GET":
        return sum(replies)
    entries = [entry for reply in replies for entry in reply if isinstance(entry, list) and len(entry) > 1]
    entries.sort(key=lambda entry: -entry[1] if isinstance(entry[1], int) else 0)
    return entries[: int(command[2])]


def _merge_latency(_command: Command, replies: Sequence[Any]) -> list[Any]:
    """Of each event, when and how long it was last on any node, and the longest on any."""
    events: dict[bytes, list[Any]] = {}
    for reply in replies:
        for name, at, latest, longest, *_ in reply:
            known = events.get(name)
            newest = (at, latest) if known is None or at >= known[1] else (known[1], known[2])
            events[name] = [name, *newest, longest if known is None else max(longest, known[3])]
    return list(events.values())


def _merge_equal(_command: Command, replies: Sequence[Any]) -> Any:
    """A setting that is the same on all nodes; none otherwise."""
    return replies[0] if all(reply == replies[0] for reply in replies) else []


_MERGES: dict[str, Callable[[Command, Sequence[Any]], Any]] = {
    "INFO": _merge_info,
    "CLIENT": _merge_clients,
    "SLOWLOG": _merge_slow_log,
    "LATENCY": _merge_latency,
    "CONFIG": _merge_equal,
}
