"""Read a list page by page while workers change it, from either of its ends.

Positions shift when workers take jobs from the front of a list or add jobs there. Each page therefore starts with the
last rows of the page before it; where these are no longer there, it starts further back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ..errors import NotFound

T = TypeVar("T")
# (number of the first row, number of rows) -> the rows; fewer where some cannot be read, none behind the end.
ReadRows = Callable[[int, int], Sequence[T]]

# The rows of the page before that a page repeats, at least; fewer than any page has.
OVERLAP = 8
# Rows that are read in addition from the end of a list, which may have become shorter since it was counted.
SLACK = 64


def scan_rows(
    read: ReadRows[T], key_of: Callable[[T], str], page_size: Callable[[], int], start: int = 0
) -> Iterator[list[T]]:
    """The rows of a list from number `start` on, each once, page by page, in the order of the list.

    Rows that are added in front of those already returned are left out. A page without further rows is empty.
    Exact as long as at most half a page of rows is added between two reads.
    Raises as `read` does, but NotFound only for the first page: the queue can be deleted during the scan.
    Cost: one `read` per page, more where the list shifts by more than OVERLAP rows between two of them.
    """
    seen: set[str] = set()
    reached = start
    while True:
        size = page_size()
        first = max(0, reached - OVERLAP) if seen else reached
        try:
            rows = ahead = read(first, size)
            back = OVERLAP
            # All rows of the page before may have been taken: those that follow are now further in front.
            while seen and first > 0 and not any(key_of(row) in seen for row in rows):
                back *= 4
                first = max(0, reached - back)
                rows = read(first, size)
        except NotFound:
            if not seen:
                raise
            return
        found = _unseen_rows(rows, key_of, seen)
        if not found and len(rows) < size:
            found = _unseen_rows(ahead, key_of, seen)  # between them are only rows that cannot be read
        yield found
        if not rows or (not found and len(rows) < size):
            return
        reached = first + len(rows)  # too few where some cannot be read: then more rows are read twice


def _unseen_rows(rows: Sequence[T], key_of: Callable[[T], str], seen: set[str]) -> list[T]:
    """The rows after the first known one that are new, and now known; all if none was known."""
    keys = [key_of(row) for row in rows]
    begin = next((number for number, key in enumerate(keys) if key in seen), 0)
    found = []
    for key, row in zip(keys[begin:], rows[begin:], strict=True):
        if key not in seen:
            seen.add(key)
            found.append(row)
    return found


def scan_last_rows(
    read: ReadRows[T], key_of: Callable[[T], str], page_size: Callable[[], int], count: int, total: int | None
) -> Iterator[list[T]]:
    """The last `count` rows of a list, the last one first, as the last page; the pages before it are empty.

    `total` is the number of all rows, if known: about where to start. If the list has become shorter, it starts again
    further in front. Raises as scan_rows. Cost: that of scan_rows from there on.
    """
    start = max(0, (total or 0) - count - SLACK)
    while True:
        last: deque[T] = deque(maxlen=count)
        for rows in scan_rows(read, key_of, page_size, start):
            last.extend(rows)
            yield []
        if len(last) >= count or start == 0:
            yield list(reversed(last))
            return
        start = max(0, start - 2 * count - SLACK)
