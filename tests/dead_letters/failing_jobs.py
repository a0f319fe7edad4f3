"""Jobs that fail in all the ways that grouping must distinguish; run by real RQ workers."""

from __future__ import annotations


class OddError(Exception):
    """Raised with any text."""


def mail(recipient: str, order: int) -> None:
    """Fails each time with another recipient and number."""
    raise ConnectionError(f"cannot send order {order} to {recipient}: timed out after {order}.5 s")


def charge(order: int) -> None:
    """Fails with the same message at another place in the code."""
    _charge(order)


def _charge(order: int) -> None:
    raise ConnectionError(f"cannot send order {order} to x@example.com: timed out after {order}.5 s")


changing_words = ["first"]


def fail_with_changing_word() -> None:
    """Fails with the last of `changing_words`; the worker runs in the process of the test."""
    raise OddError(f"the {changing_words[-1]} word")


def fail_with(text: str) -> None:
    """Fails with this text."""
    raise OddError(text)
