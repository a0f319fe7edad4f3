"""Where jobs stand in a line that is a plain list of ids, as RQ and BullMQ keep them: read in pieces, from both ends.

A list is walked once for all jobs here instead of once for each in a script: the scripts are told the places and find
them at once, a few places further on where workers took jobs meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..sources.source import Command, Source, raw_bytes

# Most jobs that are acted on stand near an end; one look reads so many ids at each.
NEAR = 2_000
# Then so many, in pieces; as many go out together as take a millisecond or two. What stands between is not sought.
REACH = 100_000
PIECE, PIECES = 5_000, 3


class ListPosition(NamedTuple):
    """Where a job stands: 0 = first of the list; the id after it, b"" at the end; how many stand after it."""

    at: int
    after: bytes
    behind: int = 0


class ListPositions(dict[str, ListPosition]):
    """Where jobs stand, by id; `whole` = all of the list was within reach, so that what is not here is not there."""

    whole: bool = True

    @property
    def missing_reason(self) -> str:
        """What to tell of a job that is not here, though it waits or waited a moment ago."""
        if self.whole:
            return "a worker has just picked it up"
        return f"not among the first or last {REACH:,} jobs; a worker may have picked it up, or it is in between"


def locate_jobs(source: Source, key: str, ids: Sequence[str], *, served_last: bool = False) -> ListPositions:
    """The places of those of `ids` that stand in the list within REACH of an end.

    `served_last`: workers take from its end and jobs come to its front, so that places are told by the end.
    Cost: 1 round trip; where not all stand near an end, 1 more for each 15,000 ids up to the last of them.
    """
    wanted = {raw_bytes(job_id): job_id for job_id in ids}
    found = ListPositions()
    # Of each stretch an id more is read than is looked at, which tells what comes after its last one.
    length, head, tail = source.run_batch([("LLEN", key), ("LRANGE", key, 0, NEAR), ("LRANGE", key, -NEAR, -1)])
    if not isinstance(length, int) or not isinstance(head, list) or not isinstance(tail, list):
        return found  # the script that comes next tells what is wrong with the key
    found.whole = length <= 2 * REACH
    _find_positions(head, 0, NEAR, length, wanted, found)
    _find_positions(tail, max(0, length - len(tail)), NEAR, length, wanted, found)
    for first, end in _ranges_to_read(length):
        if not wanted:
            break
        entries: list[bytes] = []
        for reply in source.run_batch([*_range_commands(key, first, end, length, served_last)]):
            entries += reply if isinstance(reply, list) else ()
        _find_positions(entries, first, end - first, length, wanted, found)
    return found


def _ranges_to_read(length: int) -> Iterator[tuple[int, int]]:
    """What is read of a list beside its ends: from its front on, and what is left before its end."""
    middle = min(length, REACH)
    for first, end in ((0, middle), (max(middle, length - REACH), length)):
        for start in range(first, end if length > 2 * NEAR else first, PIECE * PIECES):
            yield start, min(start + PIECE * PIECES, end)


def _range_commands(key: str, first: int, end: int, length: int, from_end: bool) -> Iterator[Command]:
    back = length if from_end else 0
    for start in range(first, end, PIECE):
        last = min(end if start + PIECE >= end else start + PIECE - 1, length - 1)
        yield "LRANGE", key, start - back, last - back


def _find_positions(
    entries: Sequence[bytes],
    first: int,
    most: int,
    length: int,
    wanted: dict[bytes, str],
    found: dict[str, ListPosition],
) -> None:
    """Move those of `wanted` that are among the `most` first of `entries` to `found`."""
    if not wanted:
        return
    last = len(entries) - 1
    for n, entry in enumerate(entries[:most]):
        job_id = wanted.pop(entry, None)
        if job_id is not None:
            found[job_id] = ListPosition(first + n, entries[n + 1] if n < last else b"", length - first - n - 1)
