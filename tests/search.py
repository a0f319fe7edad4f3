"""All queues of a backend. One step of a search ends early at a server that is slow, as any is on a busy machine."""

from __future__ import annotations

from dashboard.backends.base import Backend, Budget
from dashboard.model import QueueRef


def search(backend: Backend) -> list[QueueRef]:
    """The queues that a whole search finds, however many steps it takes."""
    found: list[QueueRef] = []
    cursor = None
    while True:
        step = backend.discover_queues(cursor, Budget(commands=100, seconds=5))
        found += [ref for ref in step.found if ref not in found]
        if step.complete or step.problem:
            return found
        cursor = step.cursor
