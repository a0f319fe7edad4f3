"""Sends the notifications of a store outage directly to the channels, without the outbox."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from ...clock import monotonic_s
from ...errors import QueuedeckError
from ...redact import masked_logger
from ..notification import HistoryEntry, Notification
from ..rules.rule import Severity
from .channels.base import Channel
from .message import PageLinks, build_message
from .outage_spool import OutageRecord, OutageSpool
from .sender import DEADLINE_S, LONGEST_RETRY_AFTER_S, back_off_s

log = masked_logger(__name__)


class OutageSender:
    """Sends the outage of the spool to all channels, from `start` until it has ended and every notification is sent."""

    def __init__(
        self,
        spool: OutageSpool,
        channels: Mapping[str, Channel],
        links: PageLinks,
        record: Callable[[HistoryEntry], None],
    ) -> None:
        self._spool = spool
        self._channels = channels
        self._links = links
        self._record_history = record
        self._change = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start sending, if that is not running."""
        self._change.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._send_all, name="queuedeck-local", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Send now, because the outage has changed."""
        self._change.set()

    def stop(self) -> None:
        """Stop sending after the current send."""
        self._stop.set()
        self._change.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(DEADLINE_S + 1)

    def _send_all(self) -> None:
        """Send to all channels in parallel until the outage has ended and every notification is sent."""
        dice = random.Random(secrets.randbits(64))  # noqa: S311 jitter, not a secret
        attempts: dict[str, int] = {}
        due: dict[str, float] = {}
        sending: dict[str, Future[float]] = {}
        # A hanging channel must not block the others.
        senders = ThreadPoolExecutor(max_workers=max(1, len(self._channels)), thread_name_prefix="queuedeck-local")
        try:
            while not self._stop.is_set():
                self._change.clear()
                for name in [name for name, future in sending.items() if future.done()]:
                    wait_s = sending.pop(name).result()
                    attempts[name] = attempts.get(name, 0) + 1 if wait_s else 0
                    due[name] = monotonic_s() + wait_s
                outage = self._spool.outage
                if outage is None or self._finish_outage(outage):
                    return
                for name in outage.channels:
                    if name not in sending and monotonic_s() >= due.get(name, 0.0) and outage.is_waiting(name):
                        future = senders.submit(self._send_pending, name, attempts.get(name, 0) + 1, dice)
                        future.add_done_callback(lambda _: self._change.set())
                        sending[name] = future
                self._change.wait(0.5)
        finally:
            senders.shutdown()  # waits until each current send is recorded

    def _send_pending(self, name: str, attempt: int, dice: random.Random) -> float:
        """Send one channel its pending notifications; returns the seconds to wait before the next attempt."""
        outage = self._spool.outage
        if outage is None or not (notifications := outage.pending_notifications(name)):
            return 0.0
        kind = "both" if len(notifications) == 2 else notifications[0].kind
        message = build_message(notifications[0].channel_message_id(name), kind, notifications, self._links, name)
        delivered = self._channels[name].send(message, DEADLINE_S)
        if delivered.ok:
            resolved = outage.ended is not None
            self._spool.update_outage(lambda current: current.confirm(name, resolved=resolved))
            return 0.0
        if delivered.permanent:
            self._spool.update_outage(lambda current: current.give_up(name))
            return 0.0
        asked = delivered.retry_after_s or None
        return back_off_s(attempt, dice) if asked is None else min(max(asked, 1.0), LONGEST_RETRY_AFTER_S)

    def _finish_outage(self, outage: OutageRecord) -> bool:
        """Write a finished outage to the history and release it; False while anything is left to do."""
        if not outage.is_finished or outage.ended is None:
            return False
        try:
            for notification in (outage.notification, outage.ended):
                self._record_history(_build_history_entry(notification))
        except QueuedeckError as exc:
            log.info("could not write the outage to the alert history yet: %s", exc.message)
            self._stop.wait(1.0)
            return False
        return self._spool.finish_outage(outage)


def _build_history_entry(notification: Notification) -> HistoryEntry:
    lasted_s = (
        max(0.0, notification.ended_at - notification.started_at)
        if notification.ended_at and notification.started_at
        else 0.0
    )
    return HistoryEntry(
        kind=notification.kind,
        episode=notification.episode,
        at=notification.at,
        rule_id=notification.rule_id,
        rule_name=notification.rule_name,
        metric=notification.metric,
        severity=Severity(notification.severity),
        labels=notification.labels,
        threshold=notification.threshold,
        value=notification.value,
        started_at=notification.started_at,
        lasted_s=lasted_s,
        reason="sent directly: the store was unavailable",
        fingerprint=notification.fingerprint,
    )
