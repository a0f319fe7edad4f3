"""What an incident report is about: all queues, those of one Redis, or one queue. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ..history.columns import QUEUE
from ..history.series_keys import SeriesKey
from ..model import QueueRef


class IncidentScope(NamedTuple):
    """Names as in QueueRef; "" means any. A scope with a queue has all three."""

    source: str = ""
    backend: str = ""
    queue: str = ""

    @property
    def series(self) -> SeriesKey:
        """The stored history of the queue, or of all queues together."""
        return SeriesKey(QUEUE, self.source, self.backend if self.queue else "", self.queue)

    def covers(self, source: str, backend: str, queue: str) -> bool:
        """Whether the queue belongs to it."""
        return self.source in ("", source) and self.backend in ("", backend) and (not self.queue or self.queue == queue)

    def covers_ref(self, ref: QueueRef) -> bool:
        """Whether the queue belongs to it; the entry for all queues of a library belongs to each of them."""
        if ref.shared and self.queue:
            return self.covers(ref.source, ref.backend, self.queue)
        return self.covers(ref.source, ref.backend, ref.name)
