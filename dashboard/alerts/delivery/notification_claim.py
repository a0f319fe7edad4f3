"""What the outbox hands to a sender, and what the sender returns: a claim, and the attempt to deliver it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...model import Value
from ..notification import Notification


class DeliveryAttempt(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One delivery attempt, as the page of deliveries shows it. Contains no secret of a channel."""

    id: str
    channel: str
    kind: str
    rule_id: str
    rule_name: str
    severity: str
    at: float
    outcome: str  # sent, retry, dead, skipped
    status: str = ""
    answer: str = ""
    duration_s: float = 0.0
    attempt: int = 0
    lines: int = 1
    next_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClaimedNotification:
    """One message of a claim; `orphan`: the channel never got the beginning of its episode.

    `thread` = id of the message in which that beginning was sent, possibly with others; empty when it is unknown.
    """

    id: str
    notification: Notification
    orphan: bool
    thread: str
    unnamed: bool = False  # the channel got the episode only as part of a count, not by name


@dataclass(frozen=True, slots=True)
class NotificationClaim:
    """Notifications claimed to be sent as one message. `kind` is `both` for pairs of beginning and end."""

    id: str
    channel: str
    token: str
    attempts: int
    age_s: float
    kind: str
    members: tuple[ClaimedNotification, ...]

    @property
    def fallback_channel(self) -> str | None:
        """The channel to use when this one gives up."""
        found = self.members[0].notification.fallback if self.members else None
        return found if found != self.channel else None
