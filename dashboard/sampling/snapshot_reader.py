"""What a web process shows: the published snapshot, or its own sample if there is no publisher."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..backends.payloads.decoding import printable
from ..clock import monotonic_s
from ..errors import BackendUnavailable, Forbidden
from ..model import QueueRef, QueueStats, Snapshot
from ..redact import masked_logger
from ..store.cache import SingleFlightCache
from .last_known import KnownFigures, LastKnownFigures
from .recent_history import FIRST_STEP_S, History
from .snapshot_store import SnapshotStore

log = masked_logger(__name__)

# After this many intervals without a new sample, the data counts as stale.
STALE_AFTER_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class CurrentSnapshot:
    """The newest snapshot this process knows, and how reliable it is. `snapshot` is None before the first sample."""

    snapshot: Snapshot | None
    history: History
    age_s: float | None
    stale: bool
    error: str | None = None  # why there is no published snapshot: one line
    hint: str | None = None
    other: str | None = None  # one line, if a process with other settings leads on the same store

    @property
    def version(self) -> str:
        """A string that changes whenever anything a page shows of this reading, except its age, can have changed."""
        if self.snapshot is None:
            return f"none:{self.error}:{self.other}"
        taken = self.snapshot
        status = f"{self.stale}:{self.error}:{self.other}"
        return f"{taken.sampler}:{taken.epoch}:{taken.sequence}:{self.history.version}:{status}"


class SnapshotSource(abc.ABC):
    """Where pages and API find the newest snapshot. Thread-safe."""

    last_known: KnownFigures

    @abc.abstractmethod
    def current(self) -> CurrentSnapshot:
        """The newest reading."""

    @abc.abstractmethod
    def current_or_wait(self) -> CurrentSnapshot:
        """As `current`, but of this second: where another thread is reading a newer one, this waits for it.

        For totals, which must not be smaller here than another process has just reported them.
        """

    def current_queues(self) -> tuple[QueueStats, ...]:
        """The queues of the newest reading; none before the first sample. Cost: as `current`."""
        snapshot = self.current().snapshot
        return snapshot.queues if snapshot else ()

    def current_refs(self, source: str, backend: str) -> list[QueueRef]:
        """The queues of one library on one source in the newest reading. Cost: as `current`."""
        return [queue.ref for queue in self.current_queues() if (queue.source, queue.backend) == (source, backend)]

    def is_elsewhere(self) -> bool:
        """Whether a process with other settings leads on the same store. Cost: as `current`."""
        return self.current().other is not None


class SnapshotReader(SnapshotSource):
    """Reads the store at most twice per interval, regardless of the number of viewers. Thread-safe.

    `own_sample` takes a sample in this process, given what was published last. It is called if that is missing or
    stale, at most once per interval, by one thread while the others get the last reading.
    """

    def __init__(
        self,
        store: SnapshotStore,
        interval_s: float,
        own_sample: Callable[[Snapshot | None, History], tuple[Snapshot, History]],
        *,
        settings_digest: str = "",
    ) -> None:
        """`settings_digest` of this process: snapshots with another one are not shown; "" accepts all."""
        self.last_known: LastKnownFigures = LastKnownFigures()  # also of what the checker in this process samples
        self._store = store
        self._settings_digest = settings_digest
        self._other: str | None = None
        self._interval_s = interval_s
        self._own_sample = own_sample
        # A reading states its own age, so that viewers get an old one rather than wait.
        self._readings: SingleFlightCache[CurrentSnapshot] = SingleFlightCache(
            min(1.0, interval_s / 2), stale_s=math.inf
        )
        self._reading: CurrentSnapshot | None = None  # this and the following: only used while reading
        self._next_own = 0.0  # monotonic
        self._wanted_history = 0
        self._looked_at = -math.inf  # monotonic

    def current(self) -> CurrentSnapshot:
        """The newest reading. Cost: usually none, otherwise 1 round trip of at most 2 commands, and 1 more for the
        changed parts if there are more than a few queues; without a leader, a sample."""
        return self._with_age(self._readings.get("", self._read_next))

    def current_or_wait(self) -> CurrentSnapshot:
        """As SnapshotSource.current_or_wait. Cost: as `current`."""
        return self._with_age(self._readings.get("", self._read_next, accepts_old=False))

    def _read_next(self) -> CurrentSnapshot:
        self._reading = self._read_published()
        if self._reading.snapshot is not None:
            self.last_known.remember(self._reading.snapshot)
        return self._reading

    def _read_published(self) -> CurrentSnapshot:
        last = self._reading
        error: str | None = None
        hint: str | None = None
        published: Snapshot | None = None
        history = last.history if last else History()
        # After a pause, and at the first read, the history has certainly changed: a script that polls rarely would
        # otherwise get the one from its last request.
        asleep = monotonic_s() - self._looked_at > FIRST_STEP_S
        newer: History | None = None
        try:
            published, newer = self._store.read_published(with_history=asleep or self._wanted_history > history.version)
            self._looked_at = monotonic_s()
        except (BackendUnavailable, Forbidden) as exc:
            error, hint = exc.message, exc.hint
        if newer is not None:
            history = newer
        self._note_other(published)
        if self._other is not None:
            return self._share_sample(published)
        if published is not None:
            followed = last is not None and last.snapshot is not None and last.snapshot.epoch == published.epoch
            if newer is None and published.epoch and not followed:
                history = History()  # each leader has its own version numbers
            self._wanted_history = published.history_version
            if not self._is_stale(published):
                return self._reading_of(published, history)
        return self._sample_alone(published or (last.snapshot if last else None), history, error, hint)

    def _note_other(self, published: Snapshot | None) -> None:
        """Record whether a process with other settings leads; not the case if `published` is missing or stale."""
        if published is None or self._is_stale(published):
            self._other = None
            return
        other = None
        if self._settings_digest and published.settings_digest not in ("", self._settings_digest):
            other = (
                f"Another dashboard ({printable(published.sampler, 80)}) samples with other settings on the same store "
                f"({self._store.source.address}, {self._store.prefix}:*). This process shows its own sample. Alerts "
                "are evaluated with the settings of the other. Give one of the two another store_prefix, or stop one."
            )
            if self._other is None:
                log.warning("%s", other)
        self._other = other

    def _share_sample(self, published: Snapshot | None) -> CurrentSnapshot:
        """A sample with this process's settings, shared with other processes of the same settings. The first one starts
        with the queues that the other dashboard published, if these settings include them."""
        known, past = self._reading.snapshot if self._reading else None, History()
        try:
            snapshot, history = self._store.read_shared(self._settings_digest)
            known, past = snapshot or known or published, history or past
            if snapshot is not None and self._age_of(snapshot) <= 2 * self._interval_s:
                return self._reading_of(snapshot, history or History())
            if not self._store.may_sample(self._settings_digest, self._interval_s) and snapshot is not None:
                return self._reading_of(snapshot, history or History())  # another process is taking a sample
            current = self._sample_alone(known, past)
            if current.snapshot is not None:
                self._store.share_snapshot(self._settings_digest, current.snapshot, current.history)
        except (BackendUnavailable, Forbidden):
            return self._sample_alone(known, past)
        return current

    def _sample_alone(
        self, known: Snapshot | None, history: History, error: str | None = None, hint: str | None = None
    ) -> CurrentSnapshot:
        if monotonic_s() < self._next_own and self._reading is not None:
            return replace(self._reading, error=error, hint=hint, other=self._other)
        snapshot, history = self._own_sample(known, history)
        self._next_own = monotonic_s() + self._interval_s
        return self._reading_of(snapshot, history, error, hint)

    def _reading_of(
        self, snapshot: Snapshot, history: History, error: str | None = None, hint: str | None = None
    ) -> CurrentSnapshot:
        return CurrentSnapshot(
            snapshot, history, self._age_of(snapshot), self._is_stale(snapshot), error, hint, self._other
        )

    def _with_age(self, current: CurrentSnapshot) -> CurrentSnapshot:
        if current.snapshot is None:
            return current
        return replace(current, age_s=self._age_of(current.snapshot), stale=self._is_stale(current.snapshot))

    def _age_of(self, snapshot: Snapshot) -> float:
        return max(0.0, self._store.now_s() - snapshot.sampled_at)

    def _is_stale(self, snapshot: Snapshot) -> bool:
        return self._age_of(snapshot) > STALE_AFTER_INTERVALS * snapshot.interval_s
