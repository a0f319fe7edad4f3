"""Many cases in one test: what they need is made once, and every case that fails is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def failures_of(check: Callable[..., None], cases: Iterable[tuple[Any, ...]]) -> dict[str, str]:
    """What `check`, called with each case, found wrong, by the case."""
    wrong = {}
    for case in cases:
        try:
            check(*case)
        except AssertionError as exc:
            wrong[f"{case!r:.300}"] = str(exc)
    return wrong
