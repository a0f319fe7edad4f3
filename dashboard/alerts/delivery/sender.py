"""The delivery loop: one thread per channel, so that a hanging provider blocks no other channel and no tick.

Every process runs it; the outbox ensures that each message is claimed by one process at a time.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Mapping

from ...clock import monotonic_s, now_s
from ...errors import BackendUnavailable, QueuedeckError
from ...redact import masked_logger
from .channels.base import Channel, DeliveryResult, Message
from .message import PageLinks, build_message
from .notification_claim import DeliveryAttempt, NotificationClaim
from .outbox_claims import MAX_AGE_MS, MAX_PAUSE_MS, OutboxClaims

log = masked_logger(__name__)

DEADLINE_S = 10.0
STOP_WAIT_S = 15.0  # for the current send
POLL_S = 0.5
ERROR_PAUSE_S = 2.0  # before the next request to the store after a failure
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 300.0
LONGEST_RETRY_AFTER_S = MAX_PAUSE_MS / 1000
MAX_ANSWER = 500


def back_off_s(attempts: int, dice: random.Random) -> float:
    """The wait after `attempts` failed attempts: full jitter below 2 s, 4 s, 8 s … 5 min."""
    ceiling = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempts - 1, 16))
    return dice.uniform(min(1.0, ceiling / 4), ceiling)


class NotificationSender:
    """Delivers the messages of the outbox, from `start` to `stop`."""

    def __init__(self, claims: OutboxClaims, channels: Mapping[str, Channel], links: PageLinks) -> None:
        self._claims = claims
        self._channels = channels
        self._links = links
        self._stop = threading.Event()
        self._wake_events = {name: threading.Event() for name in channels}
        self._random = random.Random(secrets.randbits(64))  # noqa: S311 jitter, not a secret
        self._threads = [
            threading.Thread(target=self._run_channel, args=(channel,), name=f"queuedeck-notify-{name}", daemon=True)
            for name, channel in channels.items()
        ]
        # Results that could not be recorded in the outbox yet, by channel: without them the message would be sent again
        # when its claim expires, and the next one would wait for that.
        self._unrecorded: dict[str, tuple[NotificationClaim, DeliveryResult, dict[str, bool]]] = {}
        self._last_polled: dict[str, float] = {}  # monotonic: when the outbox last answered, by channel

    def start(self) -> None:
        """Start delivery."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Claim nothing new and finish the current send, for at most 15 s."""
        self._stop.set()
        for event in self._wake_events.values():
            event.set()
        until = monotonic_s() + STOP_WAIT_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - monotonic_s()))

    def wake(self) -> None:
        """Poll the outbox now, because a message was added."""
        for event in self._wake_events.values():
            event.set()

    def is_delivering(self, within_s: float) -> bool:
        """Whether every channel's loop has polled the outbox within `within_s`: none is dead, hung or disconnected."""
        now = monotonic_s()
        return all(now - self._last_polled.get(name, float("-inf")) <= within_s for name in self._channels)

    def _run_channel(self, channel: Channel) -> None:
        wake = self._wake_events[channel.id]
        while not self._stop.is_set():
            pause_s = POLL_S
            try:
                while not self._stop.is_set() and self.deliver_one(channel):
                    pass
            except QueuedeckError as exc:
                log.info("channel %s: cannot read the outbox: %s", channel.id, exc.message)
                pause_s = ERROR_PAUSE_S
            except Exception:
                log.exception("channel %s: failed to process a notification", channel.id)
                pause_s = ERROR_PAUSE_S
            wake.wait(pause_s)
            wake.clear()

    def deliver_one(self, channel: Channel) -> bool:
        """Send the next due message of a channel; False when nothing is due. Raises BackendUnavailable."""
        self._record_result(channel.id)
        token = secrets.token_hex(8)
        claim = self._claims.claim_next(
            channel.id, token, groups=channel.can_group, spacing_s=channel.spacing_s, names=channel.max_lines
        )
        self._last_polled[channel.id] = monotonic_s()
        if claim is None:
            return False
        if not claim.members:
            self._close_claim(claim, "skipped", DeliveryResult(ok=False, status="unreadable"))
            return True
        if all(member.orphan for member in claim.members):
            skipped = DeliveryResult(
                ok=False, status="skipped", answer="the firing notification was never delivered to this channel"
            )
            self._close_claim(claim, "skipped", skipped, divert=True)
            return True
        if all(member.unnamed for member in claim.members):
            skipped = DeliveryResult(
                ok=False, status="skipped", answer="earlier notifications to this channel did not name these alerts"
            )
            self._close_claim(claim, "skipped", skipped)
            return True
        if claim.age_s * 1000 > MAX_AGE_MS:
            self._close_claim(
                claim, "dead", DeliveryResult(ok=False, status="old", answer="not delivered within 24 h"), divert=True
            )
            return True
        notifications = [member.notification for member in claim.members]
        threads = {member.notification.episode: member.thread for member in claim.members if member.thread}
        unnamed = {member.notification.episode for member in claim.members if member.unnamed}
        message = build_message(claim.id, claim.kind, notifications, self._links, channel.id, threads, unnamed)
        delivered = channel.send(message, DEADLINE_S)
        self._last_polled[channel.id] = monotonic_s()
        self._unrecorded[channel.id] = claim, delivered, _named_episodes(claim, message, channel.max_lines)
        self._record_result(channel.id)
        return True

    def _record_result(self, name: str) -> None:
        """Record a channel's result in the outbox, if that is still pending."""
        unnoted = self._unrecorded.pop(name, None)
        if unnoted is None:
            return
        try:
            self._settle_claim(*unnoted)
        except BackendUnavailable:
            self._unrecorded[name] = unnoted
            raise

    def _settle_claim(self, claim: NotificationClaim, delivered: DeliveryResult, named: Mapping[str, bool]) -> None:
        if delivered.ok:
            self._close_claim(claim, "sent", delivered, named=named)
        elif delivered.permanent:
            log.warning("channel %s: gave up on notification %s: %s", claim.channel, claim.id, delivered.status)
            self._close_claim(claim, "dead", delivered, divert=True)
        else:
            asked = delivered.retry_after_s or None  # without a requested pause, the wait is ours to choose
            wait_s = back_off_s(claim.attempts, self._random)
            if asked is not None:
                wait_s = min(max(asked, 1.0), LONGEST_RETRY_AFTER_S)
            attempt = _build_attempt(claim, "retry", delivered, next_in_s=round(wait_s, 1))
            self._claims.schedule_retry(claim, wait_s, attempt, counts=asked is None)

    def _close_claim(
        self,
        claim: NotificationClaim,
        outcome: str,
        delivered: DeliveryResult,
        *,
        divert: bool = False,
        named: Mapping[str, bool] | None = None,
    ) -> None:
        fallback = claim.fallback_channel if divert and claim.fallback_channel in self._channels else None
        self._claims.close_claim(
            claim, outcome, _build_attempt(claim, outcome, delivered), fallback=fallback, named=named
        )
        if fallback is not None:
            self._wake_events[fallback].set()


def _named_episodes(claim: NotificationClaim, message: Message, shows: int) -> dict[str, bool]:
    """For each episode that the message announces for the first time, names or ends: False if it was only counted and
    must be remembered as unnamed, else True."""
    shown = {line.episode for line in message.lines[:shows][: message.most_named]}
    if claim.kind in ("resolved", "both"):
        return {member.notification.episode: True for member in claim.members}
    notifications = [member.notification for member in claim.members]
    begins = [each for each in notifications if each.number == 1 or each.episode in shown]
    return {each.episode: each.episode in shown for each in begins if each.kind in ("firing", "flapping", "reminder")}


def _build_attempt(
    claim: NotificationClaim, outcome: str, delivered: DeliveryResult, next_in_s: float | None = None
) -> DeliveryAttempt:
    notification = claim.members[0].notification if claim.members else None
    return DeliveryAttempt(
        id=claim.id,
        channel=claim.channel,
        kind=claim.kind,
        rule_id=notification.rule_id if notification else "",
        rule_name=notification.rule_name if notification else "",
        severity=notification.severity.value if notification else "",
        at=now_s(),
        outcome=outcome,
        status=delivered.status,
        answer=delivered.answer[:MAX_ANSWER],
        duration_s=round(delivered.duration_s, 3),
        attempt=claim.attempts,
        lines=len(claim.members),
        next_in_s=next_in_s,
    )
