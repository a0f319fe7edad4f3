"""Records the history while this process leads: what the checker calls after each sample."""

from __future__ import annotations

from collections.abc import Mapping

from ..clock import monotonic_s
from ..errors import QueuedeckError
from ..model import Snapshot
from ..redact import masked_logger
from ..store.redis_store import Store
from .history_reader import HistoryReader
from .history_writer import HistoryWriter
from .readings import Flows
from .recorder import HistoryRecorder
from .run_times import RunTimes, RunTimeWatch
from .series_keys import SeriesKey

log = masked_logger(__name__)

# Above this share of its memory limit, nothing is recorded: the rest belongs to the jobs.
FULL_RATIO = 0.9
MEMORY_CHECK_S = 60.0


class HistoryRecording:
    """The history of one process, as far as it leads. Called by one thread at a time."""

    def __init__(self, store: Store, budget_bytes: int) -> None:
        self._store = store
        self._writer = HistoryWriter(store, budget_bytes)
        self._reader = HistoryReader(store)
        self._watch = RunTimeWatch(self._reader)
        self._recorder = HistoryRecorder()
        self._lead = ""
        self._is_loaded = False
        self._store_is_full: str | None = None
        self._checked_at: float | None = None
        self.problem: str | None = None  # why nothing is recorded at the moment

    def take_over(self, lead: str) -> bool:
        """Begin to record, with the lease `lead`; True. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        self._watch = RunTimeWatch(self._reader)
        self._recorder, self._lead, self._is_loaded = HistoryRecorder(self._watch.recent), lead, False
        self._load()
        return True

    def _load(self) -> None:
        """What is stored must be known before anything is: otherwise its numbers would be given to other series."""
        if not self._is_loaded:
            self._writer.load_series()
            self._recorder.know_stored(self._writer.stored_keys())
            self._is_loaded = True

    @property
    def run_times(self) -> Mapping[SeriesKey, RunTimes]:
        """The run times of the last minutes by series, with those that are usual."""
        return self._watch.compared

    def record(self, snapshot: Snapshot, flows: Flows) -> bool:
        """Add a sample with what finished since the one before; False if another process leads by now.

        What cannot be stored is a gap: while the store is nearly full, and while the history has used up its budget.
        Raises BackendUnavailable, Forbidden. Cost: none for most samples, otherwise see HistoryWriter; once a minute 1
        more round trip, and 2 to 4 while the usual run times of a series are read.
        """
        closed = self._recorder.add_sample(snapshot, flows)
        self._load()
        self._check_room()
        if closed and self.problem is None and not self._writer.append_slots(self._lead, closed):
            return False
        self._writer.compact(self._lead, snapshot.sampled_at)
        self._writer.visit_series(self._lead, snapshot.sampled_at, self._recorder.is_sampled)
        self._watch.refresh(snapshot.sampled_at)
        return True

    def stop(self) -> None:
        """Store the slots that are not complete yet, so that the next leader continues them. Never raises."""
        if not self._lead or not self._is_loaded or self.problem is not None:
            return
        try:
            self._writer.append_slots(self._lead, self._recorder.close())
        except QueuedeckError as exc:
            log.info("the last minutes of history could not be stored: %s", exc.message)
        self._lead = ""

    def _check_room(self) -> None:
        problem = self._check_store()
        if problem is None and self._writer.is_full:
            problem = "the history has used up history_max_bytes"
        if problem != self.problem:
            log.warning("no history is recorded: %s", problem) if problem else log.info("history is recorded again")
        self.problem = problem

    def _check_store(self) -> str | None:
        if self._checked_at is None or monotonic_s() - self._checked_at >= MEMORY_CHECK_S:
            ratio = self._store.source.read_health().memory_ratio
            self._checked_at = monotonic_s()
            self._store_is_full = None
            if ratio is not None and ratio > FULL_RATIO:
                self._store_is_full = f"the Redis of Queuedeck's own data uses {ratio:.0%} of its memory limit"
        return self._store_is_full
