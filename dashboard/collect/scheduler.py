"""The clockwork of one process: an APScheduler interval that samples while this process leads, and its watchdog."""

from __future__ import annotations

import atexit
import logging
import threading
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler

from dashboard.clock import monotonic_s
from dashboard.collect.leader import RENEW_EVERY_S, Leadership
from dashboard.collect.sampler import Sampler
from dashboard.collect.store import Store
from dashboard.errors import QueuedeckError

log = logging.getLogger(__name__)

# A tick that has not finished for this many intervals is taken for hung: the lease is then left to run out.
OVERDUE_INTERVALS = 3
_TICK = "sample"


class Checker:
    """Samples and publishes once per interval while this process leads. Start it once per process, after any fork."""

    def __init__(self, store: Store, sampler: Sampler, leadership: Leadership, interval_s: float) -> None:
        self._store = store
        self._sampler = sampler
        self._leadership = leadership
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._finished = monotonic_s()  # when the last tick came to its end
        self._led_epoch: int | None = None
        self._history_sent = -1
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._keeper = threading.Thread(target=self._keep, name="queuedeck-lease", daemon=True)

    def start(self) -> None:
        """Take part: ask for the lead at once, then sample on the interval."""
        # APScheduler warns each time a slow tick makes it skip one; the age on the page already tells that.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._leadership.renew()
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
        self._leadership.release()
        atexit.unregister(self.stop)

    def _tick(self) -> None:
        try:
            epoch = self._leadership.epoch
            if epoch is not None and not self._stop.is_set():
                self._lead(epoch)
        except QueuedeckError as exc:
            log.warning("this sample was not published: %s", exc.message)
        except Exception:
            log.exception("this sample failed")
        finally:
            self._finished = monotonic_s()

    def _lead(self, epoch: int) -> None:
        if epoch != self._led_epoch:
            self._take_over(epoch)
        snapshot = self._sampler.sample(epoch)
        history = self._sampler.history
        news = history if history.version != self._history_sent else None
        if self._store.publish(self._leadership.holder, epoch, snapshot, news):
            self._history_sent = history.version
        else:
            self._leadership.lost()

    def _take_over(self, epoch: int) -> None:
        """Go on where the last leader stopped, so that a restart does not cost the hour of history."""
        _, history = self._store.read(with_history=True)
        if history is not None:
            self._sampler.adopt(history)
        self._led_epoch, self._history_sent = epoch, -1

    def _keep(self) -> None:
        """Renew the lease while ticks come to their end; wake a scheduler that a stepped clock put to sleep."""
        while not self._stop.wait(min(RENEW_EVERY_S, self._interval_s * OVERDUE_INTERVALS)):
            late_s = monotonic_s() - self._finished
            if late_s > self._interval_s * OVERDUE_INTERVALS:
                job = self._scheduler.get_job(_TICK)
                if job is not None:
                    job.modify(next_run_time=datetime.now(UTC))
            if late_s < max(RENEW_EVERY_S * 2, self._interval_s * OVERDUE_INTERVALS * 2):
                self._leadership.renew()
