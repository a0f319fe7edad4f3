"""The demo's story: all queues are healthy, then the shop's payment provider answers 502 for a while, once.

The demo creates a file while the provider is down; the workers look for that file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ..units import format_duration

PROVIDER = "payments.example"
PAYMENTS_QUEUE = "payments"
# Names the file to the workers.
OUTAGE_VARIABLE = "DEMO_OUTAGE_FILE"
OUTAGE_FILE = "provider-down"


def is_provider_down() -> bool:
    """Whether the payment provider answers 502 now; False outside the demo. Cost: one system call."""
    path = os.environ.get(OUTAGE_VARIABLE)
    return path is not None and os.path.exists(path)  # noqa: PTH110 - called for each payment


def describe_story(after_s: float, duration_s: float) -> tuple[str, str, str]:
    """The three lines that the demo prints at its start."""
    start = f"After {format_duration(after_s)}" if after_s else "From the start"
    return (
        f"{start}, {PROVIDER} answers 502 for {format_duration(duration_s)}; until then, every queue is healthy.",
        f"Payments then fail and an alert fires: follow it to the queue {PAYMENTS_QUEUE} and to its error.",
        "Retry them with a canary: it fails while the provider is down; later it succeeds and the alert resolves.",
    )


class Incident:
    """The one outage of the payment provider; its time counts from the creation of this object."""

    def __init__(
        self, folder: Path, after_s: float, duration_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._outage_file = folder / OUTAGE_FILE
        self._duration_s = duration_s
        self._clock = clock
        self._next_change: float | None = clock() + after_s

    def advance(self, *, at_once: bool = False) -> str | None:
        """Begin or end the outage if it is due, or `at_once`; return the line to print, None if nothing changed.

        Nothing changes after the end of the outage.
        """
        now = self._clock()
        if self._next_change is None or (now < self._next_change and not at_once):
            return None
        if self._outage_file.exists():
            self._outage_file.unlink()
            self._next_change = None
            return f"{PROVIDER} answers again: retry the failed payments."
        self._outage_file.touch()
        self._next_change = now + self._duration_s
        return f"{PROVIDER} answers 502: payments are failing."
