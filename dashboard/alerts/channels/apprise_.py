"""The many other services, by way of Apprise (the extra `apprise`).

Apprise opens its connections itself: of our rules only the deadline holds here, not those on addresses and redirects.
"""

from __future__ import annotations

from typing import Any

from dashboard.alerts.channels import text
from dashboard.alerts.channels.base import Channel, Delivered, Message
from dashboard.alerts.channels.deadline import Deadline
from dashboard.alerts.channels.fields import ChannelSettings, Secret
from dashboard.errors import ConfigurationError


class AppriseSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The URLs of Apprise, as ntfy://topic."""

    urls: tuple[Secret, ...]

    def problem(self, *, allow_private: bool) -> str | None:
        if not 0 < len(self.urls) <= 20:
            return "urls: expected 1 to 20 URLs of Apprise"
        return super().problem(allow_private=allow_private)


class Apprise(Channel):
    """Messages to whatever Apprise can reach. Its answer is only yes or no, so every no is tried again."""

    kind = "apprise"
    settings_type = AppriseSettings

    def __init__(self, settings: AppriseSettings) -> None:
        super().__init__(settings)
        try:
            import apprise
        except ImportError:
            raise ConfigurationError(
                f"channel {self.id}: kind: apprise is not installed; pip install 'queuedeck[apprise]'"
            ) from None
        asset = apprise.AppriseAsset(app_id="Queuedeck", app_desc="Queuedeck alerts", async_mode=False)
        self._levels = {"critical": apprise.NotifyType.FAILURE, "warning": apprise.NotifyType.WARNING}
        self._over, self._info = apprise.NotifyType.SUCCESS, apprise.NotifyType.INFO
        self._format = apprise.NotifyFormat.TEXT
        self._services = apprise.Apprise(asset=asset)
        for number, url in enumerate(settings.urls, 1):
            if not self._services.add(url.reveal()):
                raise ConfigurationError(f"channel {self.id}: urls: number {number} is not a URL that Apprise knows")

    def attempt(self, message: Message, deadline: Deadline) -> Delivered:
        try:
            sent = deadline.call(lambda: self._notify(message))
        except TimeoutError:
            return Delivered(ok=False, status="timeout", answer="Apprise did not end in time")
        if sent:
            return Delivered(ok=True, status="sent", answer="all services of Apprise took it")
        return Delivered(ok=False, status="refused", answer="a service of Apprise did not take it")

    def _notify(self, message: Message) -> bool:
        level: Any = self._info if message.kind == "test" else self._levels[message.severity]
        return bool(
            self._services.notify(
                title=text.headline(message),
                body=text.plain(message),
                notify_type=self._over if text.is_over(message) else level,
                body_format=self._format,
                interpret_escapes=False,
            )
        )
