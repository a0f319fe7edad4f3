"""Sidekiq's processes as the scripts return them, read in portions that each block Redis for 1 to 2 ms."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from ...sources.source import Reply
from ..lua_reads import Scripts
from ..payloads.decoding import printable
from . import keys

# How many portions of one namespace are read; processes beyond them are unknown.
PORTIONS = 60


class NamespaceProcesses(NamedTuple):
    """The processes of one namespace.

    `rows`: as `lua/work.lua` or `lua/brief.lua` returns them. `whole`: no process is missing. `why`: why there are no
    rows, if the key that lists the processes cannot be read.
    """

    rows: list[Any]
    whole: bool
    why: str | None = None


def read_all(scripts: Scripts, script: str, namespace: str, first: Reply) -> NamespaceProcesses:
    """All processes: the `first` portion, and the rest by calls of `script`.

    Cost: 1 round trip for each further portion, at most PORTIONS.
    """
    if not isinstance(first, list):
        return NamespaceProcesses([], whole=False, why=_error_line(first))
    rows, left, count, listed = first
    if isinstance(count, ResponseError):
        return NamespaceProcesses([], whole=False, why=_error_line(count))
    found = list(rows)
    for _ in range(PORTIONS):
        if not left:
            break
        answered = scripts.run(keys.load_script(script), [(namespace, *left)])
        reply: Any = answered[0][0] if answered is not None else None
        if not isinstance(reply, list):
            break
        found += reply[0]
        left = reply[1]
    return NamespaceProcesses(found, whole=not left and listed >= count)


def _error_line(reply: Reply) -> str:
    if isinstance(reply, NoPermissionError):
        return "the Redis user is not allowed to read the processes"
    if "WRONGTYPE" in str(reply):
        return 'the key "processes" has the wrong type'
    return printable(str(reply), 200)
