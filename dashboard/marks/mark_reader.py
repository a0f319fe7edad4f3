"""All marks: those that were added in Queuedeck, and the deploy marks that libraries record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from ..backends.monitored_sources import MonitoredSources
from ..backends.unreadable_data import data_errors_foreseen
from ..errors import QueuedeckError
from ..model import Mark, QueueRef, QueueStats
from ..store.cache import SingleFlightCache
from .mark_store import MarkStore
from .new_mark import AHEAD_S, KEEP_S

# Libraries round their marks to the minute.
LIBRARY_KEPT_S = 60.0
# What refers to marks on polled pages is at most this old.
RECENT_KEPT_S = 10.0
# A change that long after a mark probably has another cause.
AFTER_MARK_S = 86_400.0


class UnreadMarks(NamedTuple):
    """A library on a source whose marks could not be read, and why."""

    source: str
    backend: str
    why: str


class MarkList(NamedTuple):
    """Marks, newest first; `unread`: whose marks are missing."""

    marks: tuple[Mark, ...]
    unread: tuple[UnreadMarks, ...] = ()


class MarkBefore(NamedTuple):
    """The last mark before something happened, and how many seconds before."""

    mark: Mark
    after_s: float

    @property
    def shown_s(self) -> float:
        """`after_s` as texts show it: to the minute from one minute on."""
        return self.after_s if self.after_s < 60 else round(self.after_s / 60) * 60.0


class MarkReader:
    """Reads marks of all kinds. Thread-safe."""

    def __init__(
        self, mark_store: MarkStore, sources: MonitoredSources, current_queues: Callable[[], Sequence[QueueStats]]
    ) -> None:
        """`current_queues` returns the queues whose libraries are asked."""
        self.mark_store = mark_store
        self._sources = sources
        self._current_queues = current_queues
        self._library_marks: SingleFlightCache[MarkList] = SingleFlightCache(LIBRARY_KEPT_S)
        self._recent_marks: SingleFlightCache[MarkList] = SingleFlightCache(RECENT_KEPT_S, stale_s=RECENT_KEPT_S)

    def list_marks(self, start_s: float, end_s: float) -> MarkList:
        """The marks between two times, newest first. Raises BackendUnavailable, Forbidden for those of the store.

        Cost: 1 round trip; once a minute, for all viewers, 1 more per source whose library records marks.
        """
        own = self.mark_store.list_marks(start_s, end_s)
        of_libraries = self._library_marks.get("", self._read_library_marks)
        others = (mark for mark in of_libraries.marks if start_s <= mark.at <= end_s)
        return MarkList(tuple(sorted((*own, *others), key=lambda mark: -mark.at)), of_libraries.unread)

    def recent_marks(self) -> tuple[Mark, ...]:
        """All marks, newest first, at most RECENT_KEPT_S old; none while the store cannot be read.

        Cost: none, or that of `list_marks` for one viewer each RECENT_KEPT_S.
        """

        def read() -> MarkList:
            now = self._sources.now_s()
            return self.list_marks(now - KEEP_S, now + AHEAD_S)

        try:
            return self._recent_marks.get("", read).marks
        except QueuedeckError:
            return ()

    def forget_recent_marks(self) -> None:
        """Read them again at the next call, because one was added or deleted."""
        self._recent_marks.invalidate()

    def _read_library_marks(self) -> MarkList:
        refs: dict[tuple[str, str], list[QueueRef]] = {}
        for queue in self._current_queues():
            refs.setdefault((queue.source, queue.backend), []).append(queue.ref)
        found: list[Mark] = []
        unread: list[UnreadMarks] = []
        for (source, name), known in refs.items():
            try:
                backend = self._sources.backend(source, name)
                now = backend.source.now_s()
                with data_errors_foreseen(f"the marks of {backend.title}"):
                    found += backend.read_marks(known, now - KEEP_S, now + AHEAD_S)
            except QueuedeckError as exc:
                unread.append(UnreadMarks(source, name, exc.message))
        return MarkList(tuple(found), tuple(unread))


def find_mark_before(marks: Iterable[Mark], at: float | None, sources: Collection[str]) -> MarkBefore | None:
    """The last mark at most AFTER_MARK_S before `at`, of `marks`, newest first; None if there is none, or `at` is
    unknown. Marks that a library recorded count only for its own source, one of `sources`."""
    if at is None:
        return None
    earlier = (mark for mark in marks if mark.at <= at and (mark.source is None or mark.source in sources))
    mark = next(earlier, None)
    return MarkBefore(mark, at - mark.at) if mark is not None and at - mark.at <= AFTER_MARK_S else None
