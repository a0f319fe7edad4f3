"""The sampling loop of a process: an APScheduler interval job that samples while it leads, and a watchdog."""

from __future__ import annotations

import atexit
import faulthandler
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from apscheduler.schedulers.background import BackgroundScheduler
from msgspec.structs import replace

from ..clock import monotonic_s
from ..errors import QueuedeckError
from ..model import FlowDelta, HistoryProblem, Snapshot
from ..redact import masked_logger
from .finished_totals import FinishedTotals
from .leadership import RENEW_EVERY_S, Leadership
from .recent_history import History
from .sampler import Sampler
from .snapshot_reader import SnapshotReader
from .snapshot_store import SnapshotStore

log = masked_logger(__name__)

# A tick that has not finished after this many intervals counts as hung: the lease is then left to expire.
OVERDUE_INTERVALS = 3
# How often a process whose checker does not lead reads what is published, also while it shows no page to anyone.
LOOK_EVERY_S = 30.0
STOP_S = 5.0
_TICK = "sample"
# A tick this late will never finish: all its timeouts are far shorter.
HUNG_S = 60.0


class TickListener(Protocol):
    """Receives the results of ticks; implemented by the alerts. Called only from the tick's thread."""

    def on_takeover(self, former: Snapshot | None) -> None:
        """This process has become leader; `former` = what the last leader published."""

    def on_sample(self, epoch: int, snapshot: Snapshot, history: History) -> bool:
        """A sample was published; False if another process leads by now. Raises BackendUnavailable, Forbidden."""

    def on_follow(self) -> None:
        """Another process leads. Raises BackendUnavailable, Forbidden."""

    def on_success(self) -> None:
        """A tick finished, and all requests to the store succeeded."""

    def on_failure(self, problem: QueuedeckError) -> None:
        """The store could not be read or written."""


class SampleRecorder(Protocol):
    """Stores every sample of a leader; implemented by the history. One thread at a time calls it."""

    @property
    def problem(self) -> HistoryProblem | None:
        """Why nothing is stored at the moment."""

    def take_over(self, lead: str) -> bool:
        """This process has become leader, with the lease `lead`; True. Raises BackendUnavailable, Forbidden."""

    def record(self, snapshot: Snapshot, flows: Mapping[tuple[str, str], FlowDelta]) -> bool:
        """A sample was published; False if another process leads by now. Raises BackendUnavailable, Forbidden."""

    def stop(self) -> None:
        """This process leads no longer. Never raises."""


class Checker:
    """Samples and publishes once per interval while this process leads. Start it once per process, after forking."""

    def __init__(
        self,
        store: SnapshotStore,
        sampler: Sampler,
        leadership: Leadership,
        interval_s: float,
        *,
        listener: TickListener | None = None,
        on_hung: Callable[[], None] | None = None,
        reader: SnapshotReader | None = None,
        recorder: SampleRecorder | None = None,
    ) -> None:
        """`on_hung` is called once if a tick hangs; a dedicated checker process then exits.

        `reader` of this process, if it shows pages, learns each sample, and reads those of another leader also while
        it shows none.
        """
        self._store = store
        self._sampler = sampler
        self._leadership = leadership
        self._interval_s = interval_s
        self._listener = listener
        self._on_hung = on_hung
        self._reader = reader
        self._recorder = recorder
        self._recording = threading.Lock()
        self._ticking = threading.Lock()
        self._recording_fault: HistoryProblem | None = None  # of the last step
        self._looked_at = monotonic_s()
        self._hung = False
        self._stop = threading.Event()
        self._finished = monotonic_s()  # when the last tick finished
        self._led_epoch: int | None = None
        self._history_sent = -1
        self._totals = FinishedTotals()
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._keeper = threading.Thread(target=self._keep_lease, name="queuedeck-lease", daemon=True)

    @property
    def problem(self) -> QueuedeckError | None:
        """Why this process can neither lead nor follow; None while it can."""
        return self._leadership.fault

    def start(self) -> None:
        """Try to acquire the lease immediately, then tick once per interval."""
        # APScheduler warns each time a slow tick makes it skip one; the page already shows the age of the data.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._leadership.renew_lease()
        self._scheduler.add_job(
            self._tick,
            "interval",
            seconds=self._interval_s,
            id=_TICK,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,  # the default of one second silently skips late ticks
            next_run_time=datetime.now(UTC),
        )
        self._scheduler.start()
        self._keeper.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop sampling and release the lease. Waits at most STOP_S for a tick and a renewal that are under way."""
        if self._stop.is_set():
            return
        self._stop.set()
        until = monotonic_s() + STOP_S
        if self._keeper.is_alive() and self._keeper is not threading.current_thread():
            # It would take the lease back after its release, and must not use connections while they are closed.
            self._keeper.join(timeout=STOP_S)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        # A tick under way uses the connections that are closed next, and must not overlap with one of the next leader.
        if self._ticking.acquire(timeout=_left_s(until)):
            self._ticking.release()
        self._stop_recording(until)
        self._leadership.release_lease()
        atexit.unregister(self.stop)

    def _tick(self) -> None:
        with self._ticking:
            try:
                if not self._stop.is_set():
                    self._take_part()
            except QueuedeckError as exc:
                log.warning("sample not published: %s", exc.message)
                self._report_failure(exc)
            except Exception:
                log.exception("sample failed")
            finally:
                self._finished = monotonic_s()

    def _take_part(self) -> None:
        epoch, fault = self._leadership.epoch, self._leadership.fault
        if epoch is not None:
            self._lead(epoch)
        elif fault is not None:
            self._report_failure(fault)  # the lease itself is unavailable; its thread has logged that
            return
        else:
            if self._listener is not None:
                self._listener.on_follow()
            if self._reader is not None and monotonic_s() - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = monotonic_s()
                self._reader.current()
        if self._listener is not None:
            self._listener.on_success()

    def _report_failure(self, problem: QueuedeckError) -> None:
        if self._listener is not None:
            try:
                self._listener.on_failure(problem)
            except Exception:
                log.exception("could not report the store outage")

    def _lead(self, epoch: int) -> None:
        if epoch != self._led_epoch:
            self._take_over(epoch)
        snapshot = self._totals.add_sample(self._sampler.sample(epoch), self._sampler.flows)
        snapshot = replace(snapshot, history_problem=self._history_problem)
        if self._reader is not None:
            self._reader.last_known.remember(snapshot)
        history = self._sampler.history
        news = history if history.version != self._history_sent else None
        if self._store.publish_snapshot(self._leadership.holder, epoch, snapshot, news):
            self._history_sent = history.version
        else:
            self._leadership.note_loss()
            return
        if self._listener is not None and not self._listener.on_sample(epoch, snapshot, history):
            self._leadership.note_loss()
        if not self._record(lambda recorder: recorder.record(snapshot, self._sampler.flows)):
            self._leadership.note_loss()

    def _record(self, step: Callable[[SampleRecorder], bool]) -> bool:
        """Run a step of recording the history; False if another process leads by now.

        Its faults are its own: they end neither sampling nor alerting.
        """
        if self._recorder is None:
            return True
        fault: HistoryProblem | None = None
        try:
            with self._recording:
                return self._stop.is_set() or step(self._recorder)
        except QueuedeckError as exc:
            log.warning("history not recorded: %s", exc.message)
            fault = HistoryProblem(message=f"It could not be stored: {exc.message}", hint=exc.hint or "")
        except Exception:
            log.exception("history not recorded")
            fault = HistoryProblem(message="It could not be stored.", hint="The log of the checker says why.")
        finally:
            self._recording_fault = fault
        return True

    @property
    def _history_problem(self) -> HistoryProblem | None:
        return self._recording_fault or (self._recorder.problem if self._recorder is not None else None)

    def _stop_recording(self, until: float) -> None:
        if self._recorder is not None and self._recording.acquire(timeout=_left_s(until)):
            try:
                self._recorder.stop()
            finally:
                self._recording.release()

    def _take_over(self, epoch: int) -> None:
        """Continue where the last leader stopped, so that a restart loses neither the hour of history nor totals."""
        former, history = self._store.read_published(with_history=True)
        self._sampler.adopt_published(former, history or History())
        self._totals = FinishedTotals(former)
        if self._listener is not None:
            self._listener.on_takeover(former)
        self._led_epoch, self._history_sent = epoch, -1
        self._record(lambda recorder: recorder.take_over(f"{self._leadership.holder}:{epoch}"))

    def _keep_lease(self) -> None:
        """Renew the lease while ticks finish; wake a scheduler that overslept because the system clock was set back."""
        while not self._stop.wait(min(RENEW_EVERY_S, self._interval_s * OVERDUE_INTERVALS)):
            late_s = monotonic_s() - self._finished
            if late_s > self._interval_s * OVERDUE_INTERVALS:
                job = self._scheduler.get_job(_TICK)
                if job is not None:
                    job.modify(next_run_time=datetime.now(UTC))
            if late_s > max(HUNG_S, self._interval_s * OVERDUE_INTERVALS * 2) and not self._hung:
                self._log_hung_tick(late_s)
            if late_s < max(RENEW_EVERY_S * 2, self._interval_s * OVERDUE_INTERVALS * 2):
                self._leadership.renew_lease()

    def _log_hung_tick(self, late_s: float) -> None:
        """Log the stack of every thread; the lease is left to expire."""
        self._hung = True
        log.critical("no tick has finished for %.0f s; the stacks of all threads follow", late_s)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        if self._on_hung is not None:
            self._on_hung()


def _left_s(until: float) -> float:
    return max(until - monotonic_s(), 0.0)
