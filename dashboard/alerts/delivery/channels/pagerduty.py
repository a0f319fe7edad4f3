"""PagerDuty Events API v2: one incident per episode, opened by `trigger` and closed by `resolve`.

Source: PagerDuty's reference of Events API v2 (limits of `summary` and `dedup_key`, status 202).
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..transport.deadline import Deadline
from ..transport.redaction import plain_line
from . import wording
from .base import DeliveryResult, Message
from .config import Endpoint, Secret
from .http_channel import HTTPChannel, HTTPChannelSettings

ENQUEUE_URL = "https://events.pagerduty.com/v2/enqueue"
_SUMMARY_LIMIT = 1024
_KEY_LIMIT = 255


class PagerDutySettings(HTTPChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The integration key of a service; `url` for another region: https://events.eu.pagerduty.com/v2/enqueue."""

    routing_key: Secret
    url: Endpoint | None = None


class PagerDuty(HTTPChannel):
    """Opens and resolves PagerDuty incidents."""

    kind = "pagerduty"
    settings_type = PagerDutySettings
    can_group: ClassVar[bool] = False

    def __init__(self, settings: PagerDutySettings, *, allow_private: bool) -> None:
        super().__init__(settings, settings.url or Endpoint(ENQUEUE_URL), allow_private=allow_private)
        self._routing_key = settings.routing_key

    @classmethod
    def from_settings(cls, settings: PagerDutySettings, *, allow_private: bool) -> PagerDuty:
        return cls(settings, allow_private=allow_private)

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        """Send all events of the message; the episode as key makes a repeat of the first one harmless."""
        delivered = DeliveryResult(ok=False, status="error")
        for event in build_events(message):
            _, delivered = self.post_json({"routing_key": self._routing_key.reveal(), **event}, deadline)
            if not delivered.ok:
                break
        return delivered


def build_events(message: Message) -> list[dict[str, Any]]:
    """The events to send, in order. What has ended, or is no alert, is opened as `info` and resolved."""
    if message.kind == "resolved":
        return [_resolve_event(message)]
    if message.kind == "both" or wording.is_no_alert(message):
        return [_trigger_event(message, "info"), _resolve_event(message)]
    return [_trigger_event(message, message.severity)]


def _trigger_event(message: Message, severity: str) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "summary": plain_line(wording.message_headline(message), _SUMMARY_LIMIT),
        "source": plain_line(message.where or "", 255) or "queuedeck",
        "severity": severity,
        "class": plain_line(message.rule_id, 255),
        "custom_details": _custom_details(message),
    }
    if message.queue:
        payload["component"] = plain_line(message.queue, 255)
    if message.started_at:
        payload["timestamp"] = wording.format_iso(message.started_at)
    return {
        "event_action": "trigger",
        "dedup_key": message.episode[:_KEY_LIMIT],
        "client": "Queuedeck",
        "payload": payload,
        "links": [{"href": url, "text": label} for label, url in wording.action_links(message)],
    }


def _resolve_event(message: Message) -> dict[str, Any]:
    return {"event_action": "resolve", "dedup_key": message.episode[:_KEY_LIMIT]}


def _custom_details(message: Message) -> dict[str, Any]:
    details: dict[str, Any] = dict(wording.incident_facts(message))
    details["Lines"] = [wording.line_text(message, line) for line in wording.shown_lines(message)]
    spark = wording.format_sparkline(message.spark)
    if spark:
        details["Last hour"] = f"{message.spark_of} {spark}" if message.spark_of else spark
    errors = wording.shown_errors(message)
    if errors:
        details["Top errors"] = errors
    return details
