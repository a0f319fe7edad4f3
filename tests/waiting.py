"""The one way in which tests wait: for a condition, never for a time, with one ceiling that no slow machine reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# No test is about how long something takes. A wait that comes to this ceiling is a fault, not a slow machine.
CEILING_S = 120.0
# A condition is asked for more rarely the longer it takes: asking costs the machine on which it shall come true.
FIRST_PAUSE_S, LONGEST_PAUSE_S, PAUSE_SHARE = 0.01, 0.2, 0.05

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, what: str) -> T:
    """The first true answer of `condition`, asked again and again; a refused connection counts as not yet.

    Fails after CEILING_S, with `what` was waited for and the last answer.
    """
    began = time.monotonic()
    while True:
        answer: object
        try:
            answer = condition()
        except OSError as exc:
            answer = exc
        else:
            if answer:
                return answer
        waited = time.monotonic() - began
        assert waited < CEILING_S, f"waited {CEILING_S:.0f} s for {what}; the last answer: {answer!r}"
        time.sleep(min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, waited * PAUSE_SHARE)))
