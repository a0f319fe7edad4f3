"""The one way in which tests wait: for a condition, never for a time, with one ceiling that no slow machine reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# No test is about how long something takes. A wait that comes to this ceiling is a fault, not a slow machine.
CEILING_S = 120.0
PAUSE_S = 0.02

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, what: str) -> T:
    """The first true answer of `condition`, asked again and again; a refused connection counts as not yet.

    Fails after CEILING_S, with `what` was waited for and the last answer.
    """
    deadline = time.monotonic() + CEILING_S
    while True:
        answer: object
        try:
            answer = condition()
        except OSError as exc:
            answer = exc
        else:
            if answer:
                return answer
        assert time.monotonic() < deadline, f"waited {CEILING_S:.0f} s for {what}; the last answer: {answer!r}"
        time.sleep(PAUSE_S)
