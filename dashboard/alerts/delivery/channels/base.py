"""What every channel answers to: a message goes in, what became of it comes out, and nothing is ever raised.

A kind of channel is one module and one line in KINDS. Its module is imported when the first channel of the kind is
made, so that nobody pays for what they do not use.
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
DEADLINE_S = 10.0  # one attempt in all: name look-up, connect, TLS, sending and the answer

Kind = Literal["firing", "resolved", "reminder", "flapping", "test", "both"]
Severity = Literal["warning", "critical"]

# kind in the settings -> module below this package, and the class in it.
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
    """One thing that is wrong, as a line of the message; texts are ready to read, with their unit."""

    label: str  # which queue, worker or server
    value_text: str | None = None  # None = unknown
    threshold_text: str | None = None
    since_text: str | None = None
    url: str | None = None  # the page about it
    episode: str | None = None  # by which its end is told, in a message of several lines too


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What people are told, the same for every channel. Worst line first; never a job's arguments."""

    id: str  # the stable name: sent again after a doubt, it is the same
    kind: Kind  # both = it began and ended before anybody could be told
    severity: Severity
    episode: str  # one incident from `firing` to `resolved`
    rule_id: str
    rule_name: str
    title: str
    lines: tuple[MessageLine, ...] = ()
    runbook_url: str | None = None
    ack_url: str | None = None
    silence_url: str | None = None
    source: str | None = None
    queue: str | None = None
    started_at: datetime | None = None  # aware, UTC
    ended_at: datetime | None = None  # aware, UTC; None while it lasts
    spark: tuple[float | None, ...] = ()  # the last hour, oldest first, evenly spaced; None = unknown
    top_errors: tuple[str, ...] = ()
    most_named: int | None = None  # of the lines, the rest only counts: it was never told of by name here; None = all
    references: str | None = None  # id of the first message of the episode on this channel, for threads in mail


class DeliveryResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one attempt. Neither `status` nor `answer` holds a secret of the channel."""

    ok: bool
    permanent: bool = False  # trying again cannot help; a person has to change something
    # The number that the provider answered ("200", "451"), else one word: timeout, reset, refused, dns, tls,
    # address, protocol, unsupported, error.
    status: str
    answer: str = ""  # the provider's own words, or ours when there were none; one short paragraph
    duration_s: float = 0.0
    retry_after_s: float | None = None  # the provider asked for this pause; None = it did not


class Channel(abc.ABC):
    """One configured way to tell people. Safe to use from several threads."""

    kind: ClassVar[str]
    settings_type: ClassVar[type[ChannelSettings]]
    # Whether several episodes may share one message. False where the provider keeps one incident per episode.
    can_group: ClassVar[bool] = True
    # How many lines one message shows; the rest is a number.
    max_lines: ClassVar[int] = 20
    # Seconds that lie between two messages at least.
    spacing_s: ClassVar[float] = 0.0

    def __init__(self, settings: ChannelSettings) -> None:
        self.id = settings.id

    @classmethod
    def from_settings(cls, settings: Any, *, allow_private: bool) -> Channel:
        """The channel of settings that were checked; they are of this class's `settings_type`."""
        del allow_private  # for those who open URLs
        return cls(settings)

    def __repr__(self) -> str:
        return f"<{self.kind} channel {self.id}>"

    def send(self, message: Message, deadline_s: float = DEADLINE_S) -> DeliveryResult:
        """What became of the message, after `deadline_s` at the latest. Never raises."""
        began = time.monotonic()
        try:
            with Deadline(deadline_s) as deadline:
                answer = self.attempt_delivery(message, deadline)
        except Exception as exc:
            # A fault of ours: no retry mends it, so it counts as permanent and the fallback channel speaks at once.
            # Its text may hold an address or a token, so only its place is told.
            place = traceback.extract_tb(exc.__traceback__)[-1]
            where = (self.id, type(exc).__name__, place.name, place.lineno)
            LOG.error("channel %s: %s in %s, line %s", *where)  # noqa: TRY400 -- a traceback would tell its text
            answer = DeliveryResult(
                ok=False, permanent=True, status="error", answer=f"internal error: {type(exc).__name__}"
            )
        return msgspec.structs.replace(answer, duration_s=time.monotonic() - began)

    @abc.abstractmethod
    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        """One try to deliver. `send` measures its duration and catches what it raises."""


def build_channel(settings: Mapping[str, Any], *, allow_private: bool = False) -> Channel:
    """The channel that one `[[channels]]` table describes.

    `allow_private` opens http:// and addresses of private networks to webhooks. Raises ConfigurationError, which names
    the channel and the field and repeats no value.
    """
    kind = _channel_class(settings)
    checked = parse_settings(settings, kind.settings_type, allow_private=allow_private)
    try:
        return kind.from_settings(checked, allow_private=allow_private)
    except OSError:  # of which ssl.SSLError is one
        raise ConfigurationError(f"channel {checked.id}: ca_file: expected certificates in PEM format") from None


def public_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What may be shown of a channel: secrets as "set", URLs by their host; what is wrong is left out. Never raises."""
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
