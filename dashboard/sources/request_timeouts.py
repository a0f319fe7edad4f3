"""How long one request of a user waits for servers that do not respond: for each, one timeout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from ..errors import BackendUnavailable

_timed_out: ContextVar[dict[str, BackendUnavailable] | None] = ContextVar("queuedeck_timed_out", default=None)


@contextlib.contextmanager
def wait_once() -> Iterator[None]:
    """Inside the block, this thread waits for a server until one read times out; later reads of it fail immediately.

    A page reads from several places. If each waited, a page about a frozen Redis would come after the browser gave up,
    which looks as if Queuedeck did not respond. Only for reading: an action must know the outcome of each step.
    """
    token = _timed_out.set({})
    try:
        yield
    finally:
        _timed_out.reset(token)


def raise_if_timed_out(address: str, source: str) -> None:
    """Raise BackendUnavailable if a read from this server has timed out inside the current `wait_once`."""
    known = (_timed_out.get() or {}).get(address)
    if known is not None:
        raise BackendUnavailable(known.message, source=source, reason=known.reason, hint=known.hint)


def note_timeout(address: str, failure: BackendUnavailable) -> None:
    """Remember a timeout for the rest of the current `wait_once`."""
    noted = _timed_out.get()
    if noted is not None and failure.reason == "timeout":
        noted[address] = failure
