"""The clockwork of one process: an APScheduler interval that samples while this process leads, and its watchdog."""

from __future__ import annotations

import atexit
import faulthandler
import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from apscheduler.schedulers.background import BackgroundScheduler

from ..clock import monotonic_s
from ..errors import QueuedeckError
from ..model import Snapshot
from ..redact import masked_logger
from .leadership import RENEW_EVERY_S, Leadership
from .recent_history import History
from .sampler import Sampler
from .snapshot_store import SnapshotStore

log = masked_logger(__name__)

# A tick that has not finished for this many intervals is taken for hung: the lease is then left to run out.
OVERDUE_INTERVALS = 3
_TICK = "sample"
# A tick this late will not come to an end by itself: all its waits are bounded by far less.
HUNG_S = 60.0


class TickListener(Protocol):
    """Who wants to know how the ticks go: the alerts. Called by the tick's thread only."""

    def on_takeover(self, former: Snapshot | None) -> None:
        """This process leads from now on; `former` = what the last leader published."""

    def on_sample(self, epoch: int, snapshot: Snapshot, history: History) -> bool:
        """A sample was published; False when another one leads by now. Raises BackendUnavailable, Forbidden."""

    def on_follow(self) -> None:
        """Another process leads. Raises BackendUnavailable, Forbidden."""

    def on_success(self) -> None:
        """A tick came to its end and the store did what it was asked."""

    def on_failure(self, problem: QueuedeckError) -> None:
        """The store could not be asked or written."""


class Checker:
    """Samples and publishes once per interval while this process leads. Start it once per process, after any fork."""

    def __init__(
        self,
        store: SnapshotStore,
        sampler: Sampler,
        leadership: Leadership,
        interval_s: float,
        *,
        listener: TickListener | None = None,
        on_hung: Callable[[], None] | None = None,
    ) -> None:
        """`on_hung` is called once when a tick does not come to its end; a process of its own then exits."""
        self._store = store
        self._sampler = sampler
        self._leadership = leadership
        self._interval_s = interval_s
        self._listener = listener
        self._on_hung = on_hung
        self._hung = False
        self._stop = threading.Event()
        self._finished = monotonic_s()  # when the last tick came to its end
        self._led_epoch: int | None = None
        self._history_sent = -1
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._keeper = threading.Thread(target=self._keep, name="queuedeck-lease", daemon=True)

    @property
    def problem(self) -> QueuedeckError | None:
        """Why this process can neither lead nor follow; None while it can."""
        return self._leadership.fault

    def start(self) -> None:
        """Take part: ask for the lead at once, then sample on the interval."""
        # APScheduler warns each time a slow tick makes it skip one; the age on the page already tells that.
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
        """Stop sampling and give the lead back."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        self._leadership.release_lease()
        atexit.unregister(self.stop)

    def _tick(self) -> None:
        try:
            if not self._stop.is_set():
                self._take_part()
        except QueuedeckError as exc:
            log.warning("this sample was not published: %s", exc.message)
            self._tell_failed(exc)
        except Exception:
            log.exception("this sample failed")
        finally:
            self._finished = monotonic_s()

    def _take_part(self) -> None:
        epoch, fault = self._leadership.epoch, self._leadership.fault
        if epoch is not None:
            self._lead(epoch)
        elif fault is not None:
            self._tell_failed(fault)  # the lease itself cannot be had; its thread has logged that
            return
        elif self._listener is not None:
            self._listener.on_follow()
        if self._listener is not None:
            self._listener.on_success()

    def _tell_failed(self, problem: QueuedeckError) -> None:
        if self._listener is not None:
            try:
                self._listener.on_failure(problem)
            except Exception:
                log.exception("the outage of the store could not be told")

    def _lead(self, epoch: int) -> None:
        if epoch != self._led_epoch:
            self._take_over(epoch)
        snapshot = self._sampler.sample(epoch)
        history = self._sampler.history
        news = history if history.version != self._history_sent else None
        if self._store.publish_snapshot(self._leadership.holder, epoch, snapshot, news):
            self._history_sent = history.version
        else:
            self._leadership.note_loss()
            return
        if self._listener is not None and not self._listener.on_sample(epoch, snapshot, history):
            self._leadership.note_loss()

    def _take_over(self, epoch: int) -> None:
        """Go on where the last leader stopped, so that a restart does not cost the hour of history."""
        former, history = self._store.read_published(with_history=True)
        self._sampler.adopt_published(former, history or History())
        if self._listener is not None:
            self._listener.on_takeover(former)
        self._led_epoch, self._history_sent = epoch, -1

    def _keep(self) -> None:
        """Renew the lease while ticks come to their end; wake a scheduler that a stepped clock put to sleep."""
        while not self._stop.wait(min(RENEW_EVERY_S, self._interval_s * OVERDUE_INTERVALS)):
            late_s = monotonic_s() - self._finished
            if late_s > self._interval_s * OVERDUE_INTERVALS:
                job = self._scheduler.get_job(_TICK)
                if job is not None:
                    job.modify(next_run_time=datetime.now(UTC))
            if late_s > max(HUNG_S, self._interval_s * OVERDUE_INTERVALS * 2) and not self._hung:
                self._tell_hung(late_s)
            if late_s < max(RENEW_EVERY_S * 2, self._interval_s * OVERDUE_INTERVALS * 2):
                self._leadership.renew_lease()

    def _tell_hung(self, late_s: float) -> None:
        """Log where every thread stands; the lease is left to run out."""
        self._hung = True
        log.critical("a tick has not come to its end for %.0f s; the stacks follow", late_s)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        if self._on_hung is not None:
            self._on_hung()
