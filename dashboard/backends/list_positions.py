"""Positions of jobs in a queue that is a plain list of ids, as in RQ and BullMQ: read in chunks, from both ends.

The list is searched here once for all jobs, instead of once per job in a script. The scripts receive the positions and
find the jobs directly, or a few positions further on if workers have picked up jobs since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..sources.source import Command, Source, raw_bytes

# Most jobs that users act on are near an end: the first read takes this many ids at each end.
NEAR = 2_000
# Then this many at each end, in chunks; each batch takes a millisecond or two. Jobs in between are not searched for.
REACH = 100_000
PIECE, PIECES = 5_000, 3


class ListPosition(NamedTuple):
    """Position of a job: its index from the front, the id after it (b"" at the end), the number of ids after it."""

    at: int
    after: bytes
    behind: int = 0


class ListPositions(dict[str, ListPosition]):
    """Positions by job id; `whole` = the whole list was searched, so that a job missing here is not in the list."""

    whole: bool = True

    @property
    def missing_reason(self) -> str:
        """Why a job was not found, although it is waiting, or was a moment ago."""
        if self.whole:
            return "a worker has just picked it up"
        return f"not among the first or last {REACH:,} jobs; a worker may have picked it up, or it is in between"


def locate_jobs(source: Source, key: str, ids: Sequence[str], *, served_last: bool = False) -> ListPositions:
    """Return the positions of those `ids` that are in the list within REACH of an end.

    `served_last`: workers take jobs from the end and new jobs are added at the front, so the list is addressed from its
    end. Cost: 1 round trip; if some are not near an end, 1 more per 15,000 ids up to the last one found.
    """
    wanted = {raw_bytes(job_id): job_id for job_id in ids}
    found = ListPositions()
    # Each chunk has one extra id: the one after its last position.
    length, head, tail = source.run_batch([("LLEN", key), ("LRANGE", key, 0, NEAR), ("LRANGE", key, -NEAR, -1)])
    if not isinstance(length, int) or not isinstance(head, list) or not isinstance(tail, list):
        return found  # the script that runs next reports what is wrong with the key
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
    """Yield the ranges to read besides the ends: first from the front, then the rest before the end."""
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
    """Move the `wanted` ids that are among the first `most` of `entries` to `found`."""
    if not wanted:
        return
    last = len(entries) - 1
    for n, entry in enumerate(entries[:most]):
        job_id = wanted.pop(entry, None)
        if job_id is not None:
            found[job_id] = ListPosition(first + n, entries[n + 1] if n < last else b"", length - first - n - 1)
