"""Many other services through Apprise (the extra `apprise`).

Apprise opens its own connections: only the deadline applies here, not the rules on addresses and redirects. Its logs
and those of its HTTP client contain URLs, so they are suppressed; its warnings become the answer, without secrets.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

from ....errors import ConfigurationError
from ..transport.deadline import Deadline
from ..transport.redaction import Scrubber
from . import wording
from .base import Channel, DeliveryResult, Message
from .config import ChannelSettings, Secret

_SIGNS = re.compile(r"[/?&=:@;,]+")
_LOGGERS = ("apprise", "requests", "urllib3.connectionpool", "urllib3.util.retry")


class ServiceUrl(Secret):
    """An Apprise URL; user, password, tokens and targets can appear anywhere in it."""

    __slots__ = ()

    def secret_parts(self) -> Iterator[str]:
        for spelling in (self._text, unquote(self._text)):
            yield spelling
            yield from (part for part in _SIGNS.split(spelling) if len(part) >= 6)


class AppriseSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Apprise URLs, such as ntfy://topic."""

    urls: tuple[ServiceUrl, ...]

    def find_problem(self, *, allow_private: bool) -> str | None:
        if not 0 < len(self.urls) <= 20:
            return "urls: expected 1 to 20 Apprise URLs"
        return super().find_problem(allow_private=allow_private)


class Apprise(Channel):
    """Sends messages through Apprise. Its result is only success or failure, so every failure is retried."""

    kind = "apprise"
    settings_type = AppriseSettings

    def __init__(self, settings: AppriseSettings) -> None:
        super().__init__(settings)
        try:
            import apprise
        except ImportError:
            raise ConfigurationError(
                f"channel {self.id}: kind: apprise is not installed; run: pip install 'queuedeck[apprise]'"
            ) from None
        asset = apprise.AppriseAsset(app_id="Queuedeck", app_desc="Queuedeck alerts", async_mode=False)
        self._levels = {"critical": apprise.NotifyType.FAILURE, "warning": apprise.NotifyType.WARNING}
        self._resolved_level, self._test_level = apprise.NotifyType.SUCCESS, apprise.NotifyType.INFO
        self._format = apprise.NotifyFormat.TEXT
        self._services = apprise.Apprise(asset=asset)
        self._scrubber = Scrubber(settings.secret_texts())
        for number, url in enumerate(settings.urls, 1):
            with _LOG_CAPTURE.capture_warnings():
                known = self._services.add(url.reveal())
            if not known:
                raise ConfigurationError(f"channel {self.id}: urls: number {number} is not a URL that Apprise supports")

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        try:
            sent, said = deadline.run_bounded(lambda: self._notify_services(message))
        except TimeoutError:
            return DeliveryResult(ok=False, status="timeout", answer="Apprise timed out")
        if sent:
            return DeliveryResult(ok=True, status="sent", answer="all Apprise services accepted it")
        answer = self._scrubber.redact_text(" ".join(said)) or "an Apprise service rejected it"
        return DeliveryResult(ok=False, status="refused", answer=answer)

    def _notify_services(self, message: Message) -> tuple[bool, list[str]]:
        level: Any = self._test_level if wording.is_no_alert(message) else self._levels[message.severity]
        with _LOG_CAPTURE.capture_warnings() as said:
            sent = self._services.notify(
                title=wording.message_headline(message),
                body=wording.format_plain_text(message),
                notify_type=self._resolved_level if wording.is_over(message) else level,
                body_format=self._format,
                interpret_escapes=False,
            )
        return bool(sent), said


class _LogCapture(logging.Filter):
    """Suppresses log records while Apprise runs, and collects the warnings among them.

    The context variable assigns records to messages: Apprise copies it into the threads it starts.
    """

    @contextmanager
    def capture_warnings(self) -> Iterator[list[str]]:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)  # once: the same filter is not added twice
        said: list[str] = []
        token = _captured_warnings.set(said)
        try:
            yield said
        finally:
            _captured_warnings.reset(token)

    def filter(self, record: logging.LogRecord) -> bool:
        said = _captured_warnings.get()
        if said is None:
            return True
        if record.levelno >= logging.WARNING and len(said) < 20:
            said.append(record.getMessage())
        return False


_captured_warnings: ContextVar[list[str] | None] = ContextVar("queuedeck-apprise", default=None)
_LOG_CAPTURE = _LogCapture()
