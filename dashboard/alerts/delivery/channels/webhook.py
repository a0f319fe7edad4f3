"""Generic webhook: posts one JSON document, with an id to detect repeats and a signature to detect forgeries.

The signature is `v1=` and the hex HMAC-SHA256, with the channel's secret, of the timestamp header, a dot and the body.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import Any
from urllib.parse import quote

import msgspec

from ..transport.deadline import Deadline
from ..transport.redaction import plain_line
from . import wording
from .base import DeliveryResult, Message, MessageLine
from .config import Endpoint, Secret
from .http_channel import HTTPChannel, HTTPChannelSettings

ID_HEADER = "Idempotency-Key"
TIME_HEADER = "X-Queuedeck-Timestamp"
SIGNATURE_HEADER = "X-Queuedeck-Signature"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")  # RFC 9110: header names
_MAX_LINES = 100
_CONVERTED_FIELDS = frozenset({"started_at", "ended_at", "spark", "top_errors", "lines", "most_named"})
# Headers set by the transport or by this channel.
_RESERVED_HEADERS = frozenset(
    {
        *("host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding", "expect"),
        *(ID_HEADER.lower(), TIME_HEADER.lower(), SIGNATURE_HEADER.lower()),
    }
)


class WebhookSettings(HTTPChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to post, and how the receiver authenticates us."""

    url: Endpoint
    secret: Secret | None = None  # signs each message; none = not signed
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)  # additional headers, such as Authorization

    def find_problem(self, *, allow_private: bool) -> str | None:
        for name, value in self.headers.items():
            if not _HEADER_NAME.match(name) or name.lower() in _RESERVED_HEADERS:
                return "headers: expected header names that Queuedeck does not set itself"
            words = value.reveal()
            if not words.isascii() or not words.isprintable():
                return "headers: expected plain ASCII values without line breaks"
        return super().find_problem(allow_private=allow_private)


class Webhook(HTTPChannel):
    """Posts messages as JSON to one URL."""

    kind = "webhook"
    settings_type = WebhookSettings
    max_lines = _MAX_LINES

    def __init__(self, settings: WebhookSettings, *, allow_private: bool) -> None:
        super().__init__(settings, settings.url, allow_private=allow_private)
        self._secret = settings.secret
        self._headers = settings.headers

    @classmethod
    def from_settings(cls, settings: WebhookSettings, *, allow_private: bool) -> Webhook:
        return cls(settings, allow_private=allow_private)

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        body = msgspec.json.encode(build_payload(message))
        # The receiver can use this to reject old messages; nothing here depends on it.
        stamp = str(int(time.time()))
        headers = {name: value.reveal() for name, value in self._headers.items()}
        headers |= {
            "Content-Type": "application/json; charset=utf-8",
            ID_HEADER: quote(message.id, safe=":._-~@", errors="replace"),
            TIME_HEADER: stamp,
        }
        if self._secret:
            headers[SIGNATURE_HEADER] = sign_body(self._secret.reveal(), stamp, body)
        return self.transport.result_from_answer(self.transport.post(body, headers, deadline))


def sign_body(secret: str, stamp: str, body: bytes) -> str:
    """The value of the signature header."""
    return "v1=" + hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def build_payload(message: Message) -> dict[str, Any]:
    """The message in the format of the API: unknown is null, instants are ISO 8601 in UTC with milliseconds.

    At most 100 lines and 20 errors; `lines_total` is the number of all lines.
    """
    fields: dict[str, Any] = {
        name: _shorten_text(getattr(message, name))
        for name in message.__struct_fields__
        if name not in _CONVERTED_FIELDS
    }
    return fields | {
        "started_at": wording.format_iso(message.started_at),
        "ended_at": wording.format_iso(message.ended_at),
        "spark": wording.resample_points(message.spark, 240),
        "top_errors": [_shorten_text(error) for error in message.top_errors[:20]],
        "lines": [_line_fields(line) for line in message.lines[:_MAX_LINES][: message.most_named]],
        "lines_total": len(message.lines),
    }


def _line_fields(line: MessageLine) -> dict[str, Any]:
    return {name: _shorten_text(getattr(line, name)) for name in line.__struct_fields__}


def _shorten_text(value: str | None) -> str | None:
    # Names come from Redis, so they can be of any length and contain characters that are not allowed in JSON.
    return None if value is None else plain_line(value, 2000)
