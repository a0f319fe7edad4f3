"""Slack: an incoming webhook, or a bot with a token (chat.postMessage). Uses Block Kit; no text can mention anyone.

Source: Slack's reference of Block Kit (text limits), incoming webhooks and chat.postMessage.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from ..transport.deadline import Deadline
from ..transport.http import HTTPAnswer
from . import wording
from .base import DeliveryResult, Message, MessageLine
from .config import Endpoint, Secret
from .http_channel import HTTPChannel, HTTPChannelSettings

POST_MESSAGE_URL = "https://slack.com/api/chat.postMessage"
_HEADER_LIMIT = 150  # characters of a header block
_SECTION_LIMIT = 3000  # characters of a section's text
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# Errors of chat.postMessage after which a retry can succeed; every other one needs a change of configuration.
_TRANSIENT = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)


class SlackSettings(HTTPChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `url` (incoming webhook), or `token` and `channel`; with a token, `url` can name another API server."""

    url: Endpoint | None = None
    token: Secret | None = None
    channel: str | None = None

    def find_problem(self, *, allow_private: bool) -> str | None:
        if self.token is None and self.url is None:
            return "url: expected an incoming webhook URL, or a token and a channel"
        if self.token is not None and not _is_token(self.token.reveal()):
            return "token: expected a bot token"
        if (self.token is None) != (self.channel is None):
            return "channel: expected together with token, and only with it"
        return super().find_problem(allow_private=allow_private)


class Slack(HTTPChannel):
    """Posts messages to a Slack channel."""

    kind = "slack"
    settings_type = SlackSettings
    spacing_s: ClassVar[float] = 1.0

    def __init__(self, settings: SlackSettings, *, allow_private: bool) -> None:
        super().__init__(settings, settings.url or Endpoint(POST_MESSAGE_URL), allow_private=allow_private)
        self._token = settings.token
        self._channel = settings.channel

    @classmethod
    def from_settings(cls, settings: SlackSettings, *, allow_private: bool) -> Slack:
        return cls(settings, allow_private=allow_private)

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        document = build_payload(message)
        if self._token is None:
            return self.post_json(document, deadline)[1]
        document |= {"channel": self._channel, "link_names": False, "parse": "none"}
        answer, judged = self.post_json(document, deadline, {"Authorization": f"Bearer {self._token.reveal()}"})
        return self._result_from_body(answer, judged)

    def _result_from_body(self, answer: HTTPAnswer | DeliveryResult, judged: DeliveryResult) -> DeliveryResult:
        """The result, corrected by the response body, because the API returns 200 for refused messages too."""
        if isinstance(answer, DeliveryResult) or not judged.ok:
            return judged
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            return DeliveryResult(ok=False, status="protocol", answer="the response was not JSON from the Slack API")
        if said.get("ok") is True:
            return judged
        error = said.get("error")
        later = isinstance(error, str) and error in _TRANSIENT
        pause_s = answer.retry_after_s if later else None
        return msgspec.structs.replace(judged, ok=False, permanent=not later, retry_after_s=pause_s)


def build_payload(message: Message) -> dict[str, Any]:
    """The message as Block Kit; `text` is shown in Slack's notification."""
    head = f"{wording.colour_mark(message)} {wording.message_headline(message)}"
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain_text(_escape_to_fit(head, _HEADER_LIMIT))}]
    rows = [_format_line(message, line) for line in wording.shown_lines(message)]
    rows += [wording.hidden_lines_text(message)] if wording.hidden_lines_text(message) else []
    blocks += [_section_block(part) for part in _pack_rows(rows)]
    facts = [f"*{name}* {escape_mrkdwn(value)}" for name, value in wording.incident_facts(message)]
    blocks += [_section_block(part) for part in _pack_rows(facts)]
    spark = wording.format_sparkline(message.spark)
    if spark:
        blocks.append({"type": "context", "elements": [_mrkdwn_text(f"{wording.spark_title(message)} `{spark}`")]})
    errors = [f"• {escape_mrkdwn(error)}" for error in wording.shown_errors(message)]
    if errors:
        blocks += [_section_block(part) for part in _pack_rows(["*Top errors*", *errors])]
    buttons = [_button_element(label, url) for label, url in wording.action_links(message)]
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    return {"text": escape_mrkdwn(head), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def escape_mrkdwn(words: str) -> str:
    """The text with Slack's three control characters escaped, so that `<!channel>` is plain text."""
    return words.translate(_ESCAPES)


def _escape_to_fit(words: str, limit: int) -> str:
    """The text escaped and truncated at its end to fit."""
    shown = escape_mrkdwn(words)
    while len(shown) > limit:
        words = words[:-1]
        shown = escape_mrkdwn(words) + "…"
    return shown


def _format_line(message: Message, line: MessageLine) -> str:
    words = escape_mrkdwn(wording.line_text(message, line))
    url = wording.safe_url(line.url)
    return f"• {words}" + (f" — <{_escape_url(url)}|open>" if url else "")


def _escape_url(url: str) -> str:
    # `|` ends the URL of a link, and `>` the link.
    return escape_mrkdwn(url).replace("|", "%7C")


def _pack_rows(rows: list[str]) -> list[str]:
    """The rows in as few texts as Slack's limit allows; no row is split in the middle, where an escape could break."""
    packed: list[str] = []
    for row in rows:
        if packed and len(packed[-1]) + 1 + len(row) <= _SECTION_LIMIT:
            packed[-1] += f"\n{row}"
        else:
            packed.append(row)
    # Escaping can push a row of 300 characters and a link of 2,000 over the limit; then the link is dropped.
    return [part if len(part) <= _SECTION_LIMIT else part.partition(" — <")[0][:_SECTION_LIMIT] for part in packed]


def _mrkdwn_text(words: str) -> dict[str, Any]:
    # verbatim: Slack does not turn text into links, channels or mentions.
    return {"type": "mrkdwn", "text": words, "verbatim": True}


def _plain_text(words: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": words, "emoji": False}


def _section_block(words: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn_text(words)}


def _button_element(label: str, url: str) -> dict[str, Any]:
    return {
        "type": "button",
        "text": _plain_text(label),
        "url": url,
        "action_id": f"queuedeck-{label.lower()}",
    }


def _is_token(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
