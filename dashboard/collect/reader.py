"""What a web process shows: the published snapshot, or its own sample when nobody publishes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from dashboard.clock import monotonic_s
from dashboard.collect.history import FIRST_STEP_S, History
from dashboard.collect.store import Store
from dashboard.errors import BackendUnavailable, Forbidden
from dashboard.model import Snapshot

# After this many intervals without a new sample the page says "stale".
STALE_AFTER_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest snapshot this process knows, and how far to trust it. `snapshot` is None before the first sample."""

    snapshot: Snapshot | None
    history: History
    age_s: float | None
    stale: bool
    error: str | None = None  # why there is no published snapshot: one line
    hint: str | None = None

    @property
    def version(self) -> str:
        """A text that changes whenever anything a page shows of this reading may have changed, its age apart."""
        if self.snapshot is None:
            return f"none:{self.error}"
        taken = self.snapshot
        return f"{taken.sampler}:{taken.epoch}:{taken.sequence}:{self.history.version}:{self.stale}:{self.error}"


class Reader:
    """Thread-safe; asks the store at most twice per interval, whatever the number of viewers.

    `own_sample` takes a sample in this process, given what was published last; it is called when that is missing or
    stale, at most once per interval, by one thread while the others get the last reading.
    """

    def __init__(
        self,
        store: Store,
        interval_s: float,
        own_sample: Callable[[Snapshot | None, History], tuple[Snapshot, History]],
    ) -> None:
        self._store = store
        self._interval_s = interval_s
        self._own_sample = own_sample
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._next_look = 0.0  # monotonic
        self._next_own = 0.0
        self._wanted_history = 0
        self._looked_at = -math.inf  # monotonic

    def current(self) -> Reading:
        """The newest reading. Cost: mostly none, else 1 round trip of at most 2 commands; a sample without a leader."""
        reading = self._reading
        if reading is not None and (monotonic_s() < self._next_look or not self._lock.acquire(blocking=False)):
            return self._aged(reading)
        if reading is None:
            self._lock.acquire()
        try:
            if self._reading is None or monotonic_s() >= self._next_look:
                self._reading = self._look()
                self._next_look = monotonic_s() + min(1.0, self._interval_s / 2)
            return self._aged(self._reading)
        finally:
            self._lock.release()

    def _look(self) -> Reading:
        last = self._reading
        error: str | None = None
        hint: str | None = None
        published: Snapshot | None = None
        history = last.history if last else History()
        # After a pause, the first look of all included, the history is sure to be another one: a script that asks now
        # and then would get that of its last visit.
        asleep = monotonic_s() - self._looked_at > FIRST_STEP_S
        newer: History | None = None
        try:
            published, newer = self._store.read(with_history=asleep or self._wanted_history > history.version)
            self._looked_at = monotonic_s()
        except (BackendUnavailable, Forbidden) as exc:
            error, hint = exc.message, exc.hint
        if newer is not None:
            history = newer
        if published is not None:
            followed = last is not None and last.snapshot is not None and last.snapshot.epoch == published.epoch
            if newer is None and published.epoch and not followed:
                history = History()  # another leader counts its versions by itself
            self._wanted_history = published.history_version
            if not self._is_stale(published):
                return self._reading_of(published, history)
        return self._own(published or (last.snapshot if last else None), history, error, hint)

    def _own(self, known: Snapshot | None, history: History, error: str | None, hint: str | None) -> Reading:
        if monotonic_s() < self._next_own and self._reading is not None:
            return replace(self._reading, error=error, hint=hint)
        snapshot, history = self._own_sample(known, history)
        self._next_own = monotonic_s() + self._interval_s
        return self._reading_of(snapshot, history, error, hint)

    def _reading_of(
        self, snapshot: Snapshot, history: History, error: str | None = None, hint: str | None = None
    ) -> Reading:
        return Reading(snapshot, history, self._age(snapshot), self._is_stale(snapshot), error, hint)

    def _aged(self, reading: Reading) -> Reading:
        if reading.snapshot is None:
            return reading
        return replace(reading, age_s=self._age(reading.snapshot), stale=self._is_stale(reading.snapshot))

    def _age(self, snapshot: Snapshot) -> float:
        return max(0.0, self._store.now_s() - snapshot.sampled_at)

    def _is_stale(self, snapshot: Snapshot) -> bool:
        return self._age(snapshot) > STALE_AFTER_INTERVALS * snapshot.interval_s
