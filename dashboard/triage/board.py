"""The groups of all dead letters, read for all viewers of a process together."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dashboard.clock import monotonic_s, now_s
from dashboard.model import Job, QueueStats
from dashboard.sources import Meter, metered
from dashboard.triage import groups
from dashboard.triage.book import Book, Remarks
from dashboard.triage.groups import Reading
from dashboard.triage.lists import BackendOf
from dashboard.triage.rows import Rows

# Reading takes no more than a sixth of the time: what took a second is kept for five.
REST_FACTOR = 5


@dataclass(frozen=True, slots=True)
class Board:
    """One reading, what is known of its groups, and what both cost."""

    reading: Reading
    remarks: Remarks
    seconds: float
    cost: Meter


class Triage:
    """Keeps the last board; one thread reads a new one while the others get the last. Thread-safe."""

    def __init__(self, backend_of: BackendOf, dlq_globs: Sequence[str], book: Book, keep_s: float) -> None:
        self.book = book
        self._backend_of = backend_of
        self._dlq_globs = tuple(dlq_globs)
        self._keep_s = keep_s
        self._rows = Rows(backend_of, dlq_globs)
        self._lock = threading.Lock()  # also guards the rows
        self._board: Board | None = None
        self._next_look = 0.0  # monotonic

    def board(self, queues: Sequence[QueueStats]) -> Board:
        """The board, an interval old at most, or REST_FACTOR times as old as reading takes. Never raises.

        Cost: mostly none; see Rows.look and Book.sync.
        """
        board = self._board
        if board is not None and (monotonic_s() < self._next_look or not self._lock.acquire(blocking=False)):
            return board
        if board is None:
            self._lock.acquire()
        try:
            if self._board is None or monotonic_s() >= self._next_look:
                self._board = self._read(queues)
                self._next_look = monotonic_s() + max(self._keep_s, REST_FACTOR * self._board.seconds)
            return self._board
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Have the next viewer see what an act changed."""
        with self._lock:
            self._board = None

    def say(self, fingerprint: str, words: Mapping[str, str | float | None]) -> bool:
        """Keep what a person says of a group, for all to see at once; as Book.say. Cost: a few round trips."""
        known = self.book.say(fingerprint, words)
        with self._lock:
            if self._board is not None:
                self._board = replace(self._board, remarks=self.book.sync(self._board.reading.groups))
        return known

    def members(
        self, queues: Sequence[QueueStats], fingerprint: str, most: int, rows_per_list: int
    ) -> Iterator[tuple[QueueStats, Job]]:
        """The jobs of a group as they are now; see groups.members."""
        return groups.members(queues, self._backend_of, self._dlq_globs, fingerprint, most, rows_per_list)

    def _read(self, queues: Sequence[QueueStats]) -> Board:
        started = monotonic_s()
        with metered() as meter:
            lists, problems = self._rows.look(queues)
            reading = groups.grouped(lists, problems, now_s())
            remarks = self.book.sync(reading.groups)
        return Board(reading, remarks, monotonic_s() - started, meter)
