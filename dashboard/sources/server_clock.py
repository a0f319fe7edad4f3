"""The clock of a Redis server, so that ages stay correct if the clock of this host is off."""

from __future__ import annotations

from typing import Any

from ..clock import monotonic_s, now_s
from .info import SERVER_TIME

# How long the time of a server is extrapolated with the clock of this host, which may run a little faster or slower.
CLOCK_CHECK_S = 60.0


class ServerClock:
    """The time of one server, from its replies to TIME and INFO, extrapolated between them."""

    def __init__(self) -> None:
        self._read: tuple[float, float] | None = None  # the server's time, and the monotonic time when it was read
        self._due = 0.0  # monotonic; when to read the time again, also if that is not permitted

    def claim_first_reading(self) -> bool:
        """Whether to read the time because it is unknown; then not again for a while."""
        claimed = self._read is None and monotonic_s() >= self._due
        if claimed:
            self._put_off()
        return claimed

    def is_due(self) -> bool:
        """Whether to read the time again."""
        return monotonic_s() >= self._due and self._due > 0

    def note_time(self, reply: Any) -> None:
        """Store the reply to TIME."""
        self._put_off()
        if isinstance(reply, list) and len(reply) == 2:
            self._read = int(reply[0]) + int(reply[1]) / 1e6, monotonic_s()

    def note_info(self, info: bytes) -> None:
        """Store the time in the reply to INFO, if there is one."""
        found = SERVER_TIME.search(info)
        if found is not None:
            self._read = int(found.group(1)) / 1e6, monotonic_s()
            self._put_off()

    def now_s(self) -> float:
        """Seconds since 1970 by the clock of the server; by the clock of this host if the server's is unknown."""
        read = self._read
        return now_s() if read is None else read[0] + monotonic_s() - read[1]

    def _put_off(self) -> None:
        self._due = monotonic_s() + CLOCK_CHECK_S
