"""Waiting for a condition, never for a time, with a ceiling that no slow machine reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# No test measures time. A wait that reaches this ceiling is a fault, not a slow machine.
CEILING_S = 120.0
# The longer a wait takes, the more rarely it checks: each check costs time of the same machine.
FIRST_PAUSE_S, LONGEST_PAUSE_S, PAUSE_SHARE = 0.01, 0.3, 0.1

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, what: str) -> T:
    """Call `condition` until its result is true, and return it; an OSError counts as not yet true.

    Fails after CEILING_S with `what` and the last result.
    """
    began = time.monotonic()
    while True:
        result: object
        try:
            result = condition()
        except OSError as exc:
            result = exc
        else:
            if result:
                return result
        waited = time.monotonic() - began
        assert waited < CEILING_S, f"waited {CEILING_S:.0f} s for {what}; the last answer: {result!r}"
        time.sleep(min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, waited * PAUSE_SHARE)))
