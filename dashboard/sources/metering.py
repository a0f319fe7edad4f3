"""The cost of an operation: what it sends to Redis, and how long it waits for the replies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

# How many bytes Redis reads from a client at a time; it runs all commands in them before it serves another client:
# 16 KiB (PROTO_IOBUF_LEN) up to 6.2; since 7.0 what fits into the client's buffer, which grows to 64 KiB.
READ_BYTES = 64 * 1024


@dataclass(slots=True)
class Meter:
    """The cost of an operation: commands and round trips sent to Redis, and the seconds spent waiting for it.

    `busy_s`: those seconds without network latency. `held_s`: the longest time for which one round trip is likely to
    have blocked the server for its other clients.
    """

    commands: int = 0
    round_trips: int = 0
    seconds: float = 0.0
    busy_s: float = 0.0
    held_s: float = 0.0

    def add(self, commands: int, seconds: float, sent_bytes: int, way_s: float = 0.0, pieces: int = 1) -> None:
        """Count one round trip, sent in pieces of at most `sent_bytes`; `way_s` of its time is network latency."""
        self.commands += commands
        self.round_trips += 1
        self.seconds += seconds
        # The server serves other clients between two reads from this one, but never within a command.
        at_once = min(1.0, max(1 / max(1, commands), min(1.0, READ_BYTES / max(1, sent_bytes)) / pieces))
        busy = max(0.0, seconds - way_s)
        self.busy_s += busy
        self.held_s = max(self.held_s, busy * at_once)


_meter: ContextVar[Meter | None] = ContextVar("queuedeck_meter", default=None)


def current_meter() -> Meter | None:
    """The Meter of the innermost `measure_cost` of this thread; None outside of any."""
    return _meter.get()


@contextlib.contextmanager
def measure_cost() -> Iterator[Meter]:
    """A Meter that counts everything this thread sends to any source inside the block; an outer meter counts it too."""
    outer = _meter.get()
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)
        if outer is not None:
            outer.commands += meter.commands
            outer.round_trips += meter.round_trips
            outer.seconds += meter.seconds
            outer.busy_s += meter.busy_s
            outer.held_s = max(outer.held_s, meter.held_s)
