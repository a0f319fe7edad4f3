"""Sidekiq's processes as the scripts tell them, read in portions that each hold Redis for a millisecond or two."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from ...sources.source import Reply
from ..lua_reads import Scripts
from ..payloads.decoding import printable
from . import keys

# So many portions of one namespace are read; of processes beyond them nothing is known.
PORTIONS = 60


class NamespaceProcesses(NamedTuple):
    """The processes of one namespace.

    `rows` = as `lua/work.lua` or `lua/brief.lua` has them; `whole` = no process is missing; `why` = why there are none
    to tell of, where the key that lists them cannot be read.
    """

    rows: list[Any]
    whole: bool
    why: str | None = None


def read_all(scripts: Scripts, script: str, namespace: str, first: Reply) -> NamespaceProcesses:
    """All processes: the `first` that were told, and those left by calls of `script`.

    Cost: 1 round trip for each further portion, PORTIONS at most.
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
        return "the Redis user may not read the processes"
    if "WRONGTYPE" in str(reply):
        return 'the key "processes" has the wrong type'
    return printable(str(reply), 200)
