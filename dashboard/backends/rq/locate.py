"""Where jobs stand in a waiting line: RQ's lines are plain lists of ids, so they are read, in pieces, from both ends.

A list is walked once for all jobs here instead of once for each in a script: the scripts are told the places and find
them at once, a few places further on where workers took jobs meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dashboard.sources import Command, Reply, Source

# Most jobs that are acted on stand near an end; one look reads so many ids at each.
NEAR = 2_000
# Then so many, in pieces that take well under a millisecond each. What stands between is not sought.
REACH = 100_000
PIECE = 5_000


class Place(NamedTuple):
    """Where a job stands: 0 = next; the id after it, b"" at the end."""

    at: int
    after: bytes


def locate(source: Source, key: str, ids: Sequence[str]) -> dict[str, Place]:
    """The places of those of `ids` that stand in the list within REACH of an end.

    Cost: 1 round trip; 2 where not all stand near an end.
    """
    wanted = {job_id.encode("utf-8", "surrogateescape"): job_id for job_id in ids}
    found: dict[str, Place] = {}
    length, head, tail = source.batch([("LLEN", key), ("LRANGE", key, 0, NEAR - 1), ("LRANGE", key, -NEAR, -1)])
    if not isinstance(length, int) or not isinstance(head, list) or not isinstance(tail, list):
        return found  # the script that comes next tells what is wrong with the key
    _find(head, 0, wanted, found)
    _find(tail, max(0, length - len(tail)), wanted, found)
    if wanted and length > 2 * NEAR:
        middle = min(length, REACH)
        _find(_joined(source.batch(_pieces(key, 0, middle))), 0, wanted, found)
        if wanted and length > middle:
            first = max(middle, length - REACH)
            _find(_joined(source.batch(_pieces(key, first, length))), first, wanted, found)
    return found


def _pieces(key: str, first: int, end: int) -> list[Command]:
    return [("LRANGE", key, start, min(start + PIECE, end) - 1) for start in range(first, end, PIECE)]


def _joined(replies: Sequence[Reply]) -> list[bytes]:
    return [entry for reply in replies if isinstance(reply, list) for entry in reply]


def _find(entries: Sequence[bytes], first: int, wanted: dict[bytes, str], found: dict[str, Place]) -> None:
    """Move those of `wanted` that are among `entries` to `found`."""
    if not wanted:
        return
    last = len(entries) - 1
    for n, entry in enumerate(entries):
        job_id = wanted.pop(entry, None)
        if job_id is not None:
            found[job_id] = Place(first + n, entries[n + 1] if n < last else b"")
