"""The interface of notification channels: a message goes in, a delivery result comes out, and nothing is ever raised.

A kind of channel is one module and one line in KINDS. The module is imported when the first channel of the kind is
created, so that unused kinds cost nothing.
"""

from __future__ import annotations

import abc
import time
import traceback
from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from typing import Any, ClassVar, Literal

import msgspec

from ....errors import ConfigurationError
from ....redact import masked_logger
from ..transport.deadline import Deadline
from .config import ChannelSettings, channel_name, parse_settings, redact_settings

LOG = masked_logger(__name__)
DEADLINE_S = 10.0  # for one whole attempt: name lookup, connect, TLS, request and response

Kind = Literal["firing", "resolved", "reminder", "flapping", "test", "approval", "both"]
Severity = Literal["warning", "critical"]

# kind in the settings -> module in this package, and its class.
KINDS: dict[str, tuple[str, str]] = {
    "slack": ("slack", "Slack"),
    "email": ("email", "Email"),
    "webhook": ("webhook", "Webhook"),
    "pagerduty": ("pagerduty", "PagerDuty"),
    "teams": ("teams", "Teams"),
    "discord": ("discord", "Discord"),
    "apprise": ("apprise_", "Apprise"),
}


class MessageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One alert as a line of the message; texts are final and include their unit."""

    label: str  # which queue, worker or server
    value_text: str | None = None  # None = unknown
    last_known_text: str | None = None  # while the value is unknown: what it was, and for how long it has been unknown
    threshold_text: str | None = None
    since_text: str | None = None
    detail_text: str | None = None  # what Redis reports about itself
    url: str | None = None  # the page about it, with the jobs that the rule is about
    owner: str | None = None  # who owns the queue
    runbook_url: str | None = None  # of the rule, otherwise of the queue
    episode: str | None = None  # identifies the alert in its resolved message, also in a message of several lines


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as text, the same for every channel. Worst line first; never a job's arguments."""

    id: str  # stable: the same when the message is sent again after an uncertain attempt
    kind: Kind  # both = it fired and resolved before it could be sent
    severity: Severity
    episode: str  # one incident from `firing` to `resolved`
    rule_id: str
    rule_name: str
    title: str
    lines: tuple[MessageLine, ...] = ()
    runbook_url: str | None = None
    owner: str | None = None  # who owns the queues of all lines
    note: str | None = None  # what the settings say about them
    ack_url: str | None = None
    silence_url: str | None = None
    source: str | None = None
    queue: str | None = None
    where: str | None = None  # source and queue as text
    started_at: datetime | None = None  # aware, UTC
    ended_at: datetime | None = None  # aware, UTC; None while it lasts
    spark: tuple[float | None, ...] = ()  # the last hour, oldest first, evenly spaced; None = unknown
    spark_of: str | None = None  # what it shows, if that is not the value of the lines
    top_errors: tuple[str, ...] = ()
    most_named: int | None = None  # lines to show; the rest is only counted, as it was never named here; None = all
    references: str | None = None  # id of the first message of the episode on this channel, for email threads


class DeliveryResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one delivery attempt. Neither `status` nor `answer` contains a secret of the channel."""

    ok: bool
    permanent: bool = False  # a retry cannot help; the configuration has to change
    # The provider's status code ("200", "451"), otherwise one word: timeout, reset, refused, dns, tls,
    # address, protocol, unsupported, error.
    status: str
    answer: str = ""  # the provider's response, or our own description without one; one short paragraph
    duration_s: float = 0.0
    retry_after_s: float | None = None  # the pause that the provider asked for; None = it did not ask


class Channel(abc.ABC):
    """One configured notification channel. Thread-safe."""

    kind: ClassVar[str]
    settings_type: ClassVar[type[ChannelSettings]]
    # Whether several episodes can share one message. False if the provider opens one incident per episode.
    can_group: ClassVar[bool] = True
    # How many lines one message shows; the rest is only counted.
    max_lines: ClassVar[int] = 20
    # Minimum seconds between two messages.
    spacing_s: ClassVar[float] = 0.0

    def __init__(self, settings: ChannelSettings) -> None:
        self.id = settings.id

    @classmethod
    def from_settings(cls, settings: Any, *, allow_private: bool) -> Channel:
        """The channel for validated settings, which are of this class's `settings_type`."""
        del allow_private  # only used by channels that open URLs
        return cls(settings)

    def __repr__(self) -> str:
        return f"<{self.kind} channel {self.id}>"

    def send(self, message: Message, deadline_s: float = DEADLINE_S) -> DeliveryResult:
        """Send the message and return the result within `deadline_s`. Never raises."""
        began = time.monotonic()
        try:
            with Deadline(deadline_s) as deadline:
                answer = self.attempt_delivery(message, deadline)
        except Exception as exc:
            # A bug of ours that no retry can fix: it counts as permanent, so the fallback channel is used immediately.
            # Its text may contain an address or a token, so only its location is logged.
            place = traceback.extract_tb(exc.__traceback__)[-1]
            where = (self.id, type(exc).__name__, place.name, place.lineno)
            LOG.error("channel %s: %s in %s, line %s", *where)  # noqa: TRY400 -- a traceback would show its text
            answer = DeliveryResult(
                ok=False, permanent=True, status="error", answer=f"internal error: {type(exc).__name__}"
            )
        return msgspec.structs.replace(answer, duration_s=time.monotonic() - began)

    @abc.abstractmethod
    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        """Make one delivery attempt. `send` measures its duration and catches what it raises."""


def build_channel(settings: Mapping[str, Any], *, allow_private: bool = False) -> Channel:
    """The channel that one `[[channels]]` table describes.

    `allow_private` permits http:// and private network addresses for webhooks. Raises ConfigurationError, which names
    the channel and the field but no value.
    """
    kind = _channel_class(settings)
    checked = parse_settings(settings, kind.settings_type, allow_private=allow_private)
    try:
        return kind.from_settings(checked, allow_private=allow_private)
    except OSError:  # includes ssl.SSLError
        raise ConfigurationError(f"channel {checked.id}: ca_file: expected certificates in PEM format") from None


def public_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a channel safe to show: secrets as "set", URLs reduced to scheme, host and port, invalid values
    omitted. Never raises."""
    try:
        return redact_settings(settings, _channel_class(settings).settings_type)
    except ConfigurationError:
        return {"id": channel_name(settings)}


def _channel_class(settings: Mapping[str, Any]) -> type[Channel]:
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigurationError(f"channel {channel_name(settings)}: kind: expected one of {', '.join(KINDS)}")
    module, name = KINDS[kind]
    found: type[Channel] = getattr(import_module(f"{__package__}.{module}"), name)
    return found
