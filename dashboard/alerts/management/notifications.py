"""Notifications: deliveries, failed ones to resend or dismiss, and test notifications."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from ...errors import Forbidden, NotFound
from ...store.packing import unpack
from .. import keys
from ..delivery.notification_claim import DeliveryAttempt
from ..delivery.outbox import Outbox
from ..evaluation.state_machine import AlertLabels
from ..notification import Notification, QueuedNotification
from ..rules.rule import Severity
from ..store import AlertStore
from ..stored_values import decode_text, stream_values
from .ownership import AlertOwnership

MAX_ROWS = 500
# Minimum time between two test notifications to one channel.
TEST_EVERY_S = 5

# KEYS a key that exists while no other test is allowed. ARGV seconds.
_LIMIT_TESTS = """
begin(KEYS[1], ARGV[1] * 1000)
if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 1 end
return 0
"""
# KEYS failed (given-up) messages. ARGV id. Returns 1; 0 when it is not among them.
_DISMISS = "return redis.call('ZREM', KEYS[1], ARGV[1])"


@dataclass(frozen=True, slots=True)
class FailedNotification:
    """A failed notification that can be resent."""

    id: str
    channel: str
    notification: Notification
    at: float


class NotificationLog:
    """Lists what was sent and what was not, resends it, and sends tests. `channels` are the ids of the settings."""

    def __init__(self, alert_store: AlertStore, channels: Collection[str], ownership: AlertOwnership) -> None:
        self._alert_store = alert_store
        self._store = alert_store.store
        self._outbox = Outbox(self._store)
        self._channels = frozenset(channels)
        self._ownership = ownership

    def list_deliveries(self, most: int = 100) -> tuple[DeliveryAttempt, ...]:
        """Delivery attempts, newest first, with the provider's response. Cost: 1 round trip."""
        if self._ownership.conflict is not None:
            return ()
        found = []
        (rows,) = self._store.read_keys(("XREVRANGE", keys.SENT, "+", "-", "COUNT", min(most, MAX_ROWS)))
        for raw in stream_values(rows):
            try:
                found.append(msgspec.json.decode(raw, type=DeliveryAttempt))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
        return tuple(found)

    def list_failed_notifications(self) -> tuple[FailedNotification, ...]:
        """Failed notifications, newest first. Cost: 2 round trips."""
        if self._ownership.conflict is not None:
            return ()
        (names,) = self._store.read_keys(("ZREVRANGE", keys.DEAD, 0, MAX_ROWS - 1, "WITHSCORES"))
        pairs = list(zip(names[::2], names[1::2], strict=False)) if names else []
        rows = self._store.read_keys(*(("HGET", keys.message_key(decode_text(name)), "body") for name, _ in pairs))
        found = []
        for (name, score), body in zip(pairs, rows, strict=True):
            notification = unpack(body, Notification)
            if notification is not None:
                found.append(
                    FailedNotification(
                        decode_text(name), decode_text(name).rpartition(":")[2], notification, float(score) / 1000
                    )
                )
        return tuple(found)

    def resend_failed(self, message_id: str) -> None:
        """Resend a failed notification under its old id. Raises NotFound, also when its channel no longer
        exists, Conflict. Cost: 2 round trips."""
        self._ownership.check()
        channel = message_id.rpartition(":")[2]
        if channel not in self._channels:
            raise NotFound(f"Channel {channel!r} no longer exists. Dismiss the notification instead.")
        (fingerprint,) = self._store.read_keys(("HGET", keys.message_key(message_id), "fingerprint"))
        if not isinstance(fingerprint, bytes) or not self._outbox.requeue_failed(message_id, decode_text(fingerprint)):
            raise NotFound("No failed notification has this id; it may have expired.")

    def dismiss_failed(self, message_id: str) -> None:
        """Dismiss a failed notification, so that it no longer counts. Raises NotFound, Conflict.

        Cost: 1 round trip.
        """
        self._ownership.check()
        if not self._store.run_script(_DISMISS, (keys.DEAD,), message_id):
            raise NotFound("No failed notification has this id.")

    def send_test(self, channel: str, *, by: str) -> str:
        """Queue a test notification in the outbox, regardless of silences, and return its id.

        The attempt appears in `list_deliveries`. Raises NotFound, Conflict, Forbidden when one was just sent.
        Cost: 3 round trips.
        """
        self._ownership.check()
        if channel not in self._channels:
            raise NotFound(f"Unknown channel {channel!r}.")
        if not self._store.run_script(_LIMIT_TESTS, (f"{keys.pace_key(channel)}:test",), TEST_EVERY_S):
            raise Forbidden(f"A test notification was just sent to this channel. Try again in {TEST_EVERY_S} s.")
        now = self._alert_store.read_time()
        name = secrets.token_hex(6)
        notification = Notification(
            kind="test",
            number=1,
            episode=f"test:{name}",
            fingerprint=f"test-{name}",
            rule_id="test",
            rule_name="Test notification from Queuedeck",
            metric="queue.depth",
            severity=Severity.WARNING,
            at=now,
            labels=AlertLabels(),
            detail=f"Sent by {by[:100]}",
            started_at=now,
        )
        queued = QueuedNotification(notification=notification, channel=channel, due_at=now)
        self._outbox.enqueue(queued)
        return queued.id

    def ask_for_approval(self, bulk_id: str, text: str) -> int:
        """Queue the request to approve a bulk operation for all channels; their number. Asking twice sends it once.

        `text`: who wants to do what, in one line. Raises Conflict. Cost: 1 round trip, plus one per channel.
        """
        if not self._channels:
            return 0
        self._ownership.check()
        now = self._alert_store.read_time()
        notification = Notification(
            kind="approval",
            number=1,
            episode=f"bulk:{bulk_id}",
            fingerprint=f"bulk-{bulk_id}",
            rule_id="bulk-approval",
            rule_name="Bulk operation waits for approval",
            metric="queue.depth",
            severity=Severity.WARNING,
            at=now,
            detail=text,
            started_at=now,
            page=f"/bulk/{bulk_id}",
        )
        for channel in sorted(self._channels):
            self._outbox.enqueue(QueuedNotification(notification=notification, channel=channel, due_at=now))
        return len(self._channels)
