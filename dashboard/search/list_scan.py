"""Read a list page by page while workers change it, from either of its ends.

Positions shift when workers take jobs from the front of a list or add jobs there. Each page therefore starts with the
last rows of the page before it; where these are no longer there, it starts further back.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import NotFound

T = TypeVar("T")

# The rows of the page before that a page repeats, at least; fewer than any page has.
OVERLAP = 8
# Rows that are read in addition from the end of a list, which may have become shorter since it was counted.
SLACK = 64


@dataclass(frozen=True, slots=True)
class ReadableList(Generic[T]):
    """How to read a list: `read` (number of the first row, number of rows) -> the rows, fewer where one is unreadable,
    none behind the end.

    `count_rows` = the number of its rows now, also of those that cannot be read; None if unknown.
    """

    read: Callable[[int, int], Sequence[T]]
    key_of: Callable[[T], str]
    page_size: Callable[[], int]
    count_rows: Callable[[], int | None]


@dataclass(slots=True)
class _Scan(Generic[T]):
    """The rows of a list that were returned, by key."""

    source: ReadableList[T]
    seen: set[str] = field(default_factory=set)

    def take_unseen(self, rows: Sequence[T]) -> list[T]:
        """The rows after the first known one that are new, and now known; all if none was known."""
        keys = [self.source.key_of(row) for row in rows]
        begin = next((number for number, key in enumerate(keys) if key in self.seen), 0)
        found = []
        for key, row in zip(keys[begin:], rows[begin:], strict=True):
            if key not in self.seen:
                self.seen.add(key)
                found.append(row)
        return found

    def count_rows(self) -> int:
        """The number of rows; 0 if unknown, or if the queue no longer exists."""
        try:
            return self.source.count_rows() or 0
        except NotFound:
            return 0

    def go_back(self, first: int, rows: Sequence[T], size: int) -> tuple[int, Sequence[T]]:
        """(number of the first row, the rows) of the page itself if it has a known row, else of one in front that has.

        The first page of the list if all known rows were taken: those that follow are there now.
        """
        back = OVERLAP
        while first > 0 and not any(self.source.key_of(row) in self.seen for row in rows):
            if len(rows) == size:
                back *= 4
            else:  # it is behind the end, or the known rows are between some that cannot be read: leave no page out
                first = min(first, self.count_rows())
                back = size
            first = max(0, first - back)
            rows = self.source.read(first, size)
        return first, rows


def scan_rows(source: ReadableList[T], start: int = 0) -> Iterator[list[T]]:
    """The rows of a list from number `start` on, each once, page by page, in the order of the list.

    Rows that are added in front of those already returned are left out. A page without further rows is empty. Exact as
    long as at most half a page of rows is added between two reads and, where no row of a page can be read, at most
    OVERLAP rows are taken.
    Raises as `read` does, but NotFound only for the first page: the queue can be deleted during the scan.
    Cost: one `read` per page, more where the list shifts by more than OVERLAP rows between two of them; one or two
    `count_rows` per page that is not full.
    """
    scan = _Scan(source)
    reached, size = start, source.page_size()
    crossing = False  # whether no new row of the page before could be read: it has none that can be found again
    while True:
        first = ahead_first = max(0, reached - OVERLAP) if reached > start or scan.seen else reached
        try:
            rows = ahead = source.read(first, size)
            if scan.seen and not crossing:
                first, rows = scan.go_back(first, rows, size)
        except NotFound:
            if not scan.seen and reached == start:
                raise
            return
        found = scan.take_unseen(rows)
        is_full = len(rows) == size
        if not found and not is_full:
            found = scan.take_unseen(ahead)  # between them are only rows that cannot be read
        yield found
        total = sys.maxsize
        if not is_full:
            total = scan.count_rows()
            yield []  # after each read: the caller may have to report progress in time
        crossing = not found and not is_full
        if crossing and ahead_first + size >= total:
            return
        if not crossing and first + len(rows) < total <= first + size:
            reached = first + OVERLAP  # the last page, with rows that cannot be read: the whole page is read again
            continue
        reached = ahead_first + size if crossing else first + (len(rows) if first + size >= total else size)
        size = source.page_size()


def scan_last_rows(source: ReadableList[T], count: int) -> Iterator[list[T]]:
    """The last `count` rows of a list, the last one first, as the last page; the pages before it are empty.

    If the list has become shorter, it starts again further in front, each time twice as far. Raises as scan_rows.
    Cost: that of scan_rows from there on, and a `count_rows` per start.
    """
    start = sys.maxsize
    further = count + SLACK
    last: deque[T] = deque(maxlen=count)
    while start > 0 and len(last) < count:
        start = max(0, min(start, source.count_rows() or 0) - further)
        further *= 2
        last.clear()
        for rows in scan_rows(source, start):
            last.extend(rows)
            yield []
    yield list(reversed(last))
