"""Counts the jobs of all objectives while this process leads: the past from the history, once, then each new minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from ..clock import monotonic_s
from ..history.columns import QUEUE
from ..history.history_reader import HistoryRange, HistoryReader
from ..history.recorder import ClosedSlot
from ..history.series_keys import SeriesKey
from ..history.tiers import MINUTES, QUARTERS, slot_of
from ..settings import SloSettings
from ..store.redis_store import Store
from .slo_counts import MINUTES_KEPT_S
from .slo_report import BURN_WINDOWS, SloReport, SloStatus
from .slo_store import SloStore
from .slo_tracker import SloTracker

# After each sample, the past of further queues is read for so long: one with jobs all the time takes about 50 ms.
READ_FOR_S = 0.1
# Of so many series it is kept which objectives cover them: queues come and go.
MAX_KEPT = 20_000


class SloWatch:
    """The objectives of one process, as far as it leads. Called by one thread at a time."""

    def __init__(self, slos: Sequence[SloSettings], store: Store) -> None:
        self._slos = tuple(slos)
        self._store = SloStore(store)
        self._reader = HistoryReader(store)
        self._trackers = [SloTracker(slo) for slo in slos]
        self._covering: dict[SeriesKey, list[SloTracker]] = {}
        self._unread: deque[SeriesKey] = deque()
        self._live_from_s: int | None = None  # from this minute on, what is recorded is counted; before, what is stored
        self._reported_s = 0
        self._reports: Mapping[str, SloReport] = {}

    @property
    def statuses(self) -> tuple[SloStatus, ...]:
        """The objectives with what is counted so far; without a report while the history is still being read."""
        return tuple(SloStatus(slo, self._reports.get(slo.id)) for slo in self._slos)

    def begin(self, keys: Iterable[SeriesKey]) -> None:
        """Start counting again, with what is stored of `keys`."""
        self._trackers = [SloTracker(slo) for slo in self._slos]
        self._covering, self._live_from_s, self._reported_s, self._reports = {}, None, 0, {}
        self._unread = deque(key for key in keys if self._find_trackers(key))

    def _find_trackers(self, key: SeriesKey) -> list[SloTracker]:
        found = self._covering.get(key)
        if found is None:
            if len(self._covering) >= MAX_KEPT:
                self._covering.clear()
            is_queue = key.kind is QUEUE and bool(key.name)
            found = [tracker for tracker in self._trackers if tracker.covers(key)] if is_queue else []
            self._covering[key] = found
        return found

    def add_slots(self, closed: Sequence[ClosedSlot], now_s: float) -> None:
        """Count the minutes that have ended."""
        if self._live_from_s is None:
            self._live_from_s = slot_of(now_s, MINUTES.step_s)
        for key, tier, record in closed:
            if tier == MINUTES and record.start_s >= self._live_from_s:
                for tracker in self._find_trackers(key):
                    tracker.add_minute(key, record)

    def refresh(self, lead: str, now_s: float) -> None:
        """Read more of the past, or report the minute that has ended, and publish it.

        Raises BackendUnavailable, Forbidden. Cost: none for most samples; 1 round trip once a minute; while the past is
        read, 4 for each queue, until READ_FOR_S has passed.
        """
        if not self._slos:
            return
        if self._unread:
            self._read_past(now_s)
        minute_s = slot_of(now_s, MINUTES.step_s)
        if self._unread or minute_s == self._reported_s:
            return
        reports = [tracker.report(minute_s) for tracker in self._trackers]
        self._reports = {report.slo_id: report for report in reports}
        self._reported_s = minute_s
        self._store.publish(lead, reports)

    def _read_past(self, now_s: float) -> None:
        end_s = self._live_from_s if self._live_from_s is not None else slot_of(now_s, MINUTES.step_s)
        longest_s = max(*(slo.window_s for slo in self._slos), *BURN_WINDOWS.values())
        past = HistoryRange(slot_of(end_s - longest_s, QUARTERS.step_s), end_s, QUARTERS.step_s)
        minutes = HistoryRange(end_s - MINUTES_KEPT_S, end_s, MINUTES.step_s)
        until_s = monotonic_s() + READ_FOR_S
        while self._unread and monotonic_s() < until_s:
            key = self._unread[0]
            # As of when counting began: what was stored since is counted already.
            by_quarter = self._reader.read_records([key], past, end_s)[key]
            by_minute = self._reader.read_records([key], minutes, end_s)[key]
            self._unread.popleft()
            for tracker in self._find_trackers(key):
                tracker.add_past_quarters(key, by_quarter, past.start_s, end_s)
                tracker.add_past_minutes(key, by_minute, minutes.start_s, end_s)
