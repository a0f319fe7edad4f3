"""A dead man's switch: somebody outside is called while all is well, and raises the alarm when the calls stop."""

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

EVERY_S = 60.0
DEADLINE_S = 10.0


class DeadMansSwitch:
    """Calls the URL at most once a minute, on a thread of its own, so that no tick waits for it."""

    def __init__(self, url: str, *, allow_private: bool) -> None:
        """Raises ConfigurationError, without the URL in it: its path is a secret."""
        try:
            endpoint = Endpoint(url)
        except ValueError as exc:
            raise ConfigurationError(f"ping_url: {exc}") from None
        if not endpoint.tls and not allow_private:
            raise ConfigurationError("ping_url: expected https://, or allow_private_webhooks = true")
        self._transport = HTTPTransport(endpoint, Scrubber(endpoint.parts()), allow_private=allow_private)
        self._due = float("-inf")
        self._busy = threading.Lock()

    def all_is_well(self) -> None:
        """To be called after each tick that evaluated and could deliver."""
        if monotonic_s() < self._due or not self._busy.acquire(blocking=False):
            return
        self._due = monotonic_s() + EVERY_S
        threading.Thread(target=self._call, name="queuedeck-ping", daemon=True).start()

    def _call(self) -> None:
        try:
            with Deadline(DEADLINE_S) as deadline:
                answer = self._transport.judge(self._transport.post(b"", {}, deadline))
            if not answer.ok:
                log.warning("ping_url returned %s %s", answer.status, answer.answer)
        finally:
            self._busy.release()
