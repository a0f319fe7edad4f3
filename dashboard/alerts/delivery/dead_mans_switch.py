"""A dead man's switch: an outside service is pinged while alerting works and raises an alarm when the pings stop."""

from __future__ import annotations

import threading

from ...clock import monotonic_s
from ...errors import ConfigurationError
from ...redact import masked_logger
from .channels.config import Endpoint
from .transport.deadline import Deadline
from .transport.http import HTTPTransport
from .transport.redaction import Scrubber

log = masked_logger(__name__)

INTERVAL_S = 60.0
DEADLINE_S = 10.0


class DeadMansSwitch:
    """Pings the URL at most once a minute, on a separate thread, so that no tick waits for it."""

    def __init__(self, url: str, *, allow_private: bool) -> None:
        """Raises ConfigurationError without the URL, because its path is a secret."""
        try:
            endpoint = Endpoint(url)
        except ValueError as exc:
            raise ConfigurationError(f"ping_url: {exc}") from None
        if not endpoint.tls and not allow_private:
            raise ConfigurationError("ping_url: expected https://, or allow_private_webhooks = true")
        self._transport = HTTPTransport(endpoint, Scrubber(endpoint.secret_parts()), allow_private=allow_private)
        self._next_due = float("-inf")
        self._busy = threading.Lock()

    def ping_if_due(self) -> None:
        """Ping the URL if the interval has passed. Call it after each tick that evaluated and could deliver."""
        if monotonic_s() < self._next_due or not self._busy.acquire(blocking=False):
            return
        self._next_due = monotonic_s() + INTERVAL_S
        threading.Thread(target=self._send_ping, name="queuedeck-ping", daemon=True).start()

    def _send_ping(self) -> None:
        try:
            with Deadline(DEADLINE_S) as deadline:
                answer = self._transport.result_from_answer(self._transport.post(b"", {}, deadline))
            if not answer.ok:
                log.warning("ping_url returned %s %s", answer.status, answer.answer)
        finally:
            self._busy.release()
