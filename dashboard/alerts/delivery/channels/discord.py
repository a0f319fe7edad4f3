"""Discord: posts an embed to a webhook URL. Mentions are disabled, whatever a name contains.

Source: Discord's reference "Execute Webhook" and "Embed Limits" (6,000 characters in all).
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..transport.deadline import Deadline
from . import wording
from .base import DeliveryResult, Message, MessageLine
from .config import Endpoint
from .http_channel import HTTPChannel, HTTPChannelSettings

_TITLE_LIMIT = 256
_DESCRIPTION_LIMIT = 3500  # of Discord's 4,096, so that all fields fit into the limit of 6,000
_FIELD_LIMIT = 200
_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\`*_~|>#[]()<@:-"})


class DiscordSettings(HTTPChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The URL that Discord shows under "Integrations", "Webhooks"."""

    url: Endpoint


class Discord(HTTPChannel):
    """Posts messages to a Discord channel."""

    kind = "discord"
    settings_type = DiscordSettings
    spacing_s: ClassVar[float] = 0.5  # Discord allows five in two seconds

    def __init__(self, settings: DiscordSettings, *, allow_private: bool) -> None:
        super().__init__(settings, settings.url, allow_private=allow_private)

    @classmethod
    def from_settings(cls, settings: DiscordSettings, *, allow_private: bool) -> Discord:
        return cls(settings, allow_private=allow_private)

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        return self.post_json(build_payload(message), deadline)[1]


def build_payload(message: Message) -> dict[str, Any]:
    """One embed; `content` stays empty, so that no notification text can carry a mention."""
    embed: dict[str, Any] = {
        "title": escape_markdown(wording.message_headline(message), _TITLE_LIMIT),
        "description": _build_description(message),
        "color": int(wording.message_colour(message)[1:], 16),
        "fields": [
            {"name": name, "value": escape_markdown(value, _FIELD_LIMIT), "inline": True}
            for name, value in wording.incident_facts(message)
        ],
    }
    if message.started_at:
        embed["timestamp"] = wording.format_iso(message.ended_at or message.started_at)
    return {"username": "Queuedeck", "allowed_mentions": {"parse": []}, "embeds": [embed]}


def escape_markdown(words: str, limit: int) -> str:
    """The text with all Discord Markdown characters escaped, truncated to `limit` between two characters."""
    shown = words[: limit + 1].translate(_ESCAPES)
    if len(shown) <= limit:
        return shown
    kept = shown[: max(0, limit - 1)]
    if (len(kept) - len(kept.rstrip("\\"))) % 2:  # a backslash without the character that it escapes
        kept = kept[:-1]
    return f"{kept}…"


def _build_description(message: Message) -> str:
    tail: list[str] = []
    spark = wording.format_sparkline(message.spark)
    tail += [f"`{spark}` {wording.spark_title(message).lower()}"] if spark else []
    errors = wording.shown_errors(message)
    tail += ["**Top errors**", *(f"• {escape_markdown(error, _FIELD_LIMIT)}" for error in errors)] if errors else []
    # A link is omitted rather than truncated.
    actions = [f"[{label}]({_escape_url(url)})" for label, url in wording.action_links(message) if len(url) <= 500]
    tail += [" · ".join(actions)] if actions else []
    room = _DESCRIPTION_LIMIT - sum(len(part) + 1 for part in tail) - len("and 1,000,000 more\n")
    lines = wording.shown_lines(message)
    head = [_format_line(message, line) for line in lines]
    if sum(len(row) + 1 for row in head) > room:
        # Every alert is listed, in a shorter line if necessary, because its resolved message names it too.
        head = ["• " + escape_markdown(wording.line_text(message, line), room // len(lines) - 4) for line in lines]
    hidden = len(message.lines) - len(head)
    head += [f"and {hidden:,} more"] if hidden > 0 else []
    return "\n".join([*head, *tail])


def _format_line(message: Message, line: MessageLine) -> str:
    words = escape_markdown(wording.line_text(message, line), 400)
    url = wording.safe_url(line.url)
    return f"• {words}" + (f" [open]({_escape_url(url)})" if url and len(url) <= 500 else "")


def _escape_url(url: str) -> str:
    return url.replace("(", "%28").replace(")", "%29").replace("<", "%3C").replace(">", "%3E")
