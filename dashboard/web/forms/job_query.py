"""The list and page of jobs that a URL requests; the same for pages and the API."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from flask import request

from ...backends.base import Backend
from ...errors import Unsupported
from ...model import JobQuery, State

MAX_PER_PAGE = 200
DEFAULT_PER_PAGE = 50
MAX_PAGE = 10_000_000


def job_query(backend: Backend, word: str) -> JobQuery:
    """The JobQuery for `word` (a Queuedeck state, or the library's own name of a list) and the URL's paging.

    Raises Unsupported for an unknown state or an invalid number.
    """
    state, native = _parse_state(backend, word)
    narrowed = request.args.get("native") or native
    if narrowed is not None and narrowed not in backend.states[state]:
        raise Unsupported(
            f"{backend.title} has no list {narrowed!r} of {state.value} jobs.",
            hint=f"Its lists are: {', '.join(backend.states[state])}",
        )
    return JobQuery(
        state=state,
        native=narrowed,
        page=asked_number("page", 1, MAX_PAGE),
        per_page=asked_number("per_page", DEFAULT_PER_PAGE, MAX_PER_PAGE),
    )


def _parse_state(backend: Backend, word: str) -> tuple[State, str | None]:
    for state, natives in backend.states.items():
        if word == state.value or any(word == one.value and at is state for one, at in backend.listed_with.items()):
            return state, None
        if word in natives:
            return state, word
    known = ", ".join(state.value for state in backend.states)
    raise Unsupported(f"{backend.title} has no state {word!r}.", hint=f"Its states are: {known}")


def asked_number(name: str, default: int, highest: int, lowest: int = 1) -> int:
    """A query parameter as a whole number; `default` without it. Raises Unsupported outside `lowest` to `highest`."""
    text = request.args.get(name)
    if text is None or text == "":
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not lowest <= number <= highest:
        raise Unsupported(f"{name}={text[:20]!r}: expected a number from {lowest} to {highest:,}.")
    return number


def asked_amount(name: str) -> float | None:
    """A query parameter as a number from 0 to 1e12; None without it. Raises Unsupported."""
    text = request.args.get(name)
    if text is None or text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1e12:
        raise Unsupported(f"{name}={text[:50]!r}: expected a number.")
    return value


def asked_time(name: str) -> float | None:
    """A query parameter in ISO 8601 (UTC without a zone) or in seconds, as seconds since 1970; None without it.

    Raises Unsupported.
    """
    text = request.args.get(name)
    if not text or text.replace(".", "", 1).isdigit():
        return asked_amount(name)
    try:
        # A plus sign that was not percent-encoded arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise Unsupported(f"{name}={text[:50]!r}: expected a time, such as 2026-11-25T10:00:00Z.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
