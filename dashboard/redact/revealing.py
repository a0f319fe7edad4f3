"""Shows the values behind masks, for the one read whose result goes to a user who may see them.

The switch belongs to the thread that reads: what other threads read meanwhile, and every log line, stays masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_revealing: ContextVar[bool] = ContextVar("queuedeck_is_revealing", default=False)


@contextmanager
def masks_lifted() -> Iterator[None]:
    """Within the block, `mask_text` and `mask_payload` leave secrets as they are.

    Only for a read whose result is neither cached nor logged, after the right to see it was checked.
    """
    token = _is_revealing.set(True)
    try:
        yield
    finally:
        _is_revealing.reset(token)


def is_revealing() -> bool:
    """Whether this thread is within such a block."""
    return _is_revealing.get()
