"""Records the history while this process leads: what the checker calls after each sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ..clock import monotonic_s
from ..errors import QueuedeckError
from ..model import HistoryProblem, Snapshot
from ..redact import masked_logger
from ..store.redis_store import Store
from ..units import format_percent, format_size
from .activity.activities import Activities
from .activity.activity_watch import ActivityWatch
from .history_reader import HistoryReader
from .history_writer import HistoryWriter
from .readings import Flows
from .recorder import ClosedSlot, HistoryRecorder
from .run_times import RunTimes, RunTimeWatch
from .series_keys import SeriesKey

log = masked_logger(__name__)

# Above this share of its memory limit, nothing is recorded: the rest belongs to the jobs.
FULL_RATIO = 0.9
MEMORY_CHECK_S = 60.0


class SlotListener(Protocol):
    """Follows what is recorded; implemented by the service level objectives. Called by one thread at a time."""

    def begin(self, keys: Iterable[SeriesKey]) -> None:
        """A leader begins to record; `keys`: of what is stored so far."""

    def add_slots(self, closed: Sequence[ClosedSlot], now_s: float) -> None:
        """Slots that are complete as of the sample of `now_s`."""

    def refresh(self, lead: str, now_s: float) -> None:
        """That sample was recorded, by the leader with the lease `lead`. Raises BackendUnavailable, Forbidden."""


class HistoryRecording:
    """The history of one process, as far as it leads. Called by one thread at a time."""

    def __init__(self, store: Store, budget_bytes: int, listener: SlotListener | None = None) -> None:
        self._store = store
        self._writer = HistoryWriter(store, budget_bytes)
        self._reader = HistoryReader(store)
        self._watch = RunTimeWatch(self._reader)
        self._activity = ActivityWatch(store)
        self._recorder = HistoryRecorder()
        self._listener = listener
        self._lead = ""
        self._is_loaded = False
        self._store_is_full: HistoryProblem | None = None
        self._checked_at: float | None = None
        self._used_up = HistoryProblem(
            message=f"The history has used up history_max_bytes ({format_size(budget_bytes)}).",
            hint="Recording continues within half an hour, with less detail for the past. To keep more, raise "
            "history_max_bytes.",
        )
        self.problem: HistoryProblem | None = None  # why nothing is recorded at the moment

    def take_over(self, lead: str) -> bool:
        """Begin to record, with the lease `lead`; True. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        self._watch, self._activity = RunTimeWatch(self._reader), ActivityWatch(self._store)
        self._recorder = HistoryRecorder(self._watch.recent, self._activity.recent)
        self._lead, self._is_loaded = lead, False
        self._load()
        return True

    def _load(self) -> None:
        """What is stored must be known before anything is: otherwise its numbers would be given to other series."""
        if not self._is_loaded:
            self._writer.load_series()
            self._recorder.know_stored(self._writer.stored_keys())
            self._is_loaded = True
            if self._listener is not None:
                self._listener.begin(self._writer.stored_keys())

    @property
    def run_times(self) -> Mapping[SeriesKey, RunTimes]:
        """The run times of the last minutes by series, with those that are usual."""
        return self._watch.compared

    @property
    def activities(self) -> Activities:
        """The jobs of the last minutes by series, with those that are usual at this hour of the week."""
        return self._activity.found

    def record(self, snapshot: Snapshot, flows: Flows) -> bool:
        """Add a sample with what finished since the one before; False if another process leads by now.

        What cannot be stored is a gap: while the store is nearly full, and while the history has used up its budget.
        Raises BackendUnavailable, Forbidden. Cost: none for most samples, otherwise see HistoryWriter; once a minute 1
        more round trip, and 2 to 4 while the usual run times of a series are read, 2 to 12 while its usual jobs
        are; see also SloWatch.refresh.
        """
        closed = self._recorder.add_sample(snapshot, flows)
        # First: alerts compare these jobs also while nothing can be stored.
        self._activity.count_minutes(snapshot.sampled_at, self._recorder.known_classes, self._recorder.is_sampled)
        self._load()
        if self._listener is not None:
            self._listener.add_slots(closed, snapshot.sampled_at)
        self._check_room()
        if closed and self.problem is None and not self._writer.append_slots(self._lead, closed):
            return False
        self._writer.compact(self._lead, snapshot.sampled_at)
        self._writer.visit_series(self._lead, snapshot.sampled_at, self._recorder.is_sampled)
        self._watch.refresh(snapshot.sampled_at)
        self._activity.read_past(snapshot.sampled_at)
        if self._listener is not None:
            self._listener.refresh(self._lead, snapshot.sampled_at)
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
            problem = self._used_up
        if problem != self.problem:
            if problem is None:
                log.info("history is recorded again")
            elif self.problem is None or problem.hint != self.problem.hint:
                log.warning("no history is recorded: %s %s", problem.message, problem.hint)
        self.problem = problem

    def _check_store(self) -> HistoryProblem | None:
        if self._checked_at is None or monotonic_s() - self._checked_at >= MEMORY_CHECK_S:
            ratio = self._store.source.read_health().memory_ratio
            self._checked_at = monotonic_s()
            self._store_is_full = None
            if ratio is not None and ratio > FULL_RATIO:
                self._store_is_full = HistoryProblem(
                    message=f"The Redis with Queuedeck's own data uses {format_percent(ratio)} of its memory limit.",
                    hint=f"Recording continues below {format_percent(FULL_RATIO)}: free memory there or raise its "
                    "maxmemory, or name another Redis with store_url.",
                )
        return self._store_is_full
