"""Slack: an incoming webhook, or a bot with a token (chat.postMessage). Block Kit; no text can ping anybody.

Source: Slack's reference of Block Kit (limits of its texts), of incoming webhooks and of chat.postMessage.
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

POST_MESSAGE = "https://slack.com/api/chat.postMessage"
_HEADER_LIMIT = 150  # characters of a header block
_SECTION_LIMIT = 3000  # characters of a section's text
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# Words of chat.postMessage after which the same message may pass later; every other one asks for a person.
_TRANSIENT = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)


class SlackSettings(HTTPChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `url` (incoming webhook), or `token` and `channel`; with a token `url` may name another API server."""

    url: Endpoint | None = None
    token: Secret | None = None
    channel: str | None = None

    def problem(self, *, allow_private: bool) -> str | None:
        if self.token is None and self.url is None:
            return "url: expected an incoming webhook URL, or a token and a channel"
        if self.token is not None and not _is_token(self.token.reveal()):
            return "token: expected a bot token"
        if (self.token is None) != (self.channel is None):
            return "channel: expected together with token, and only with it"
        return super().problem(allow_private=allow_private)


class Slack(HTTPChannel):
    """Messages in a Slack channel."""

    kind = "slack"
    settings_type = SlackSettings
    spacing_s: ClassVar[float] = 1.0

    def __init__(self, settings: SlackSettings, *, allow_private: bool) -> None:
        super().__init__(settings, settings.url or Endpoint(POST_MESSAGE), allow_private=allow_private)
        self._token = settings.token
        self._channel = settings.channel

    @classmethod
    def build(cls, settings: SlackSettings, *, allow_private: bool) -> Slack:
        return cls(settings, allow_private=allow_private)

    def attempt(self, message: Message, deadline: Deadline) -> DeliveryResult:
        document = payload(message)
        if self._token is None:
            return self.post(document, deadline)[1]
        document |= {"channel": self._channel, "link_names": False, "parse": "none"}
        answer, judged = self.post(document, deadline, {"Authorization": f"Bearer {self._token.reveal()}"})
        return self._judge_api(answer, judged)

    def _judge_api(self, answer: HTTPAnswer | DeliveryResult, judged: DeliveryResult) -> DeliveryResult:
        """The API answers 200 also to what it refuses; the truth stands in the body."""
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


def payload(message: Message) -> dict[str, Any]:
    """The message as Block Kit; `text` is what a notification shows."""
    head = f"{wording.mark(message)} {wording.headline(message)}"
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(_fitting(head, _HEADER_LIMIT))}]
    rows = [_line(line) for line in wording.shown_lines(message)]
    rows += [wording.more(message)] if wording.more(message) else []
    blocks += [_section(part) for part in _packed(rows)]
    facts = [f"*{name}* {escape(value)}" for name, value in wording.facts(message)]
    blocks += [_section(part) for part in _packed(facts)]
    spark = wording.sparkline(message.spark)
    if spark:
        blocks.append({"type": "context", "elements": [_mrkdwn(f"Last hour `{spark}`")]})
    errors = [f"• {escape(error)}" for error in wording.shown_errors(message)]
    if errors:
        blocks += [_section(part) for part in _packed(["*Top errors*", *errors])]
    buttons = [_button(label, url) for label, url in wording.links(message)]
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    return {"text": escape(head), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def escape(words: str) -> str:
    """The words as Slack shows them: its three characters of control escaped, so `<!channel>` is only text."""
    return words.translate(_ESCAPES)


def _fitting(words: str, limit: int) -> str:
    """The words escaped, with so much left out at their end that they fit."""
    shown = escape(words)
    while len(shown) > limit:
        words = words[:-1]
        shown = escape(words) + "…"
    return shown


def _line(line: MessageLine) -> str:
    words = escape(wording.line_text(line))
    url = wording.safe_url(line.url)
    return f"• {words}" + (f" — <{_in_link(url)}|open>" if url else "")


def _in_link(url: str) -> str:
    # `|` ends the URL of a link, and `>` the link.
    return escape(url).replace("|", "%7C")


def _packed(rows: list[str]) -> list[str]:
    """The rows in as few texts as Slack's limit allows; no row is cut in its middle, where an escape could break."""
    packed: list[str] = []
    for row in rows:
        if packed and len(packed[-1]) + 1 + len(row) <= _SECTION_LIMIT:
            packed[-1] += f"\n{row}"
        else:
            packed.append(row)
    # A row of 300 characters and a link of 2,000 may grow over the limit when escaped; then the link goes.
    return [part if len(part) <= _SECTION_LIMIT else part.partition(" — <")[0][:_SECTION_LIMIT] for part in packed]


def _mrkdwn(words: str) -> dict[str, Any]:
    # verbatim: Slack makes no links, channels or mentions out of what looks like one.
    return {"type": "mrkdwn", "text": words, "verbatim": True}


def _plain(words: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": words, "emoji": False}


def _section(words: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(words)}


def _button(label: str, url: str) -> dict[str, Any]:
    return {
        "type": "button",
        "text": _plain(label),
        "url": url,
        "action_id": f"queuedeck-{label.lower()}",
    }


def _is_token(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
