"""Jobs that fail in all the ways that triage must tell apart; run by real RQ workers."""

from __future__ import annotations


class OddError(Exception):
    """Raised with any text."""


def mail(recipient: str, order: int) -> None:
    """Fails each time with another recipient and number."""
    raise ConnectionError(f"cannot send order {order} to {recipient}: timed out after {order}.5 s")


def charge(order: int) -> None:
    """Fails with the same words in another place."""
    _charge(order)


def _charge(order: int) -> None:
    raise ConnectionError(f"cannot send order {order} to x@example.com: timed out after {order}.5 s")


mood = ["first"]


def moody() -> None:
    """Fails with the word of the day; the worker runs in the process of the test."""
    raise OddError(f"the {mood[-1]} word")


def say(text: str) -> None:
    """Fails with this text."""
    raise OddError(text)
