"""Functions that the RQ workers of the tests run."""

from __future__ import annotations

from typing import Any

from rq import Retry


def add(first: int, second: int = 0, **_: Any) -> dict[str, int]:
    """The sum, in a dictionary."""
    return {"sum": first + second}


def fail(message: str = "no luck") -> None:
    """Never returns."""
    raise ValueError(message)


def again(times: int) -> Retry:
    """Asks for another run, as RQ lets a job do by its return value."""
    return Retry(max=times)


class Counter:
    """A job that is a method of an object, which is pickled with it."""

    def __init__(self, start: int) -> None:
        self.start = start

    def step(self, by: int) -> int:
        """The next number."""
        return self.start + by
