"""Microsoft Teams: posts an Adaptive Card to the URL of a workflow (or of the older connector).

All texts are in text runs, which Teams shows verbatim: a TextBlock would interpret Markdown in them.
Source: Microsoft's schema of Adaptive Cards 1.4 and "Create incoming webhooks" (28 KB per message).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from ..transport.deadline import Deadline
from ..transport.http import HTTPAnswer
from . import wording
from .base import DeliveryResult, Message
from .config import Endpoint
from .http_channel import HTTPChannel, HTTPChannelSettings

SIZE_LIMIT = 27_000  # bytes of JSON; Teams refuses more than 28 KB
_STYLES = {"critical": "attention", "warning": "warning"}


class TeamsSettings(HTTPChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The URL that Teams shows for the workflow "Post to a channel when a webhook request is received"."""

    url: Endpoint


class Teams(HTTPChannel):
    """Posts cards to a Teams channel."""

    kind = "teams"
    settings_type = TeamsSettings
    spacing_s: ClassVar[float] = 0.25  # Teams throttles at four per second

    def __init__(self, settings: TeamsSettings, *, allow_private: bool) -> None:
        super().__init__(settings, settings.url, allow_private=allow_private)

    @classmethod
    def from_settings(cls, settings: TeamsSettings, *, allow_private: bool) -> Teams:
        return cls(settings, allow_private=allow_private)

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        answer, judged = self.post_json(build_payload(message), deadline)
        if judged.ok and isinstance(answer, HTTPAnswer):
            return _result_from_body(answer, judged)
        return judged


def _result_from_body(answer: HTTPAnswer, judged: DeliveryResult) -> DeliveryResult:
    """The result, corrected by the response body.

    The older connector returns 200 for failed deliveries and the real status as text.
    """
    said = answer.body.decode("utf-8", "replace")
    _, told, status = said.partition("returned HTTP error ")
    if not told:
        return judged
    permanent = status[:1] == "4" and status[:3] not in ("408", "429")
    return msgspec.structs.replace(judged, ok=False, permanent=permanent, retry_after_s=answer.retry_after_s)


def build_payload(message: Message) -> dict[str, Any]:
    """The card in its envelope, with as many lines as the limit of Teams allows."""
    rows = [wording.line_text(message, line) for line in wording.shown_lines(message)]
    while True:
        document = _wrap_card(_build_card(message, rows))
        longest = max(map(len, rows), default=0)
        if longest <= 20 or len(msgspec.json.encode(document)) <= SIZE_LIMIT:
            return document
        # Shorten lines instead of dropping any: the resolved message names every alert listed here.
        rows = [row if len(row) <= longest * 3 // 4 else row[: longest * 3 // 4] + "…" for row in rows]


def _wrap_card(card: dict[str, Any]) -> dict[str, Any]:
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


def _build_card(message: Message, rows: list[str]) -> dict[str, Any]:
    body: list[dict[str, Any]] = [
        {
            "type": "Container",
            "style": "good" if wording.is_over(message) else _STYLES[message.severity],
            "bleed": True,
            "items": [_rich_text_block(wording.message_headline(message), weight="Bolder", size="Medium")],
        }
    ]
    body += [_rich_text_block(f"• {row}") for row in rows]
    hidden = wording.hidden_lines_text(message)
    body += [_rich_text_block(hidden)] if hidden else []
    body += [_rich_text_block(f"{name}: {value}", isSubtle=True) for name, value in wording.incident_facts(message)]
    spark = wording.format_sparkline(message.spark)
    body += [_rich_text_block(f"{wording.spark_title(message)} {spark}", fontType="Monospace")] if spark else []
    errors = wording.shown_errors(message)
    body += (
        [_rich_text_block("Top errors", weight="Bolder"), *(_rich_text_block(f"• {error}") for error in errors)]
        if errors
        else []
    )
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": wording.message_headline(message),
        "msteams": {"width": "Full"},
        "body": body,
        "actions": [
            {"type": "Action.OpenUrl", "title": label, "url": url} for label, url in wording.action_links(message)
        ],
    }


def _rich_text_block(words: str, **look: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": words, **look}]}
