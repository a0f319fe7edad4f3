"""What one sample of all sources returns."""

from __future__ import annotations

from .base import Value
from .queues import QueueStats
from .sources import SourceStats


class HistoryProblem(Value, frozen=True, kw_only=True):
    """Why no history is recorded at the moment, and what to do: whole sentences."""

    message: str
    hint: str = ""


class Snapshot(Value, frozen=True, kw_only=True):
    """All queues of all sources at one moment, published by the leader or sampled by a web process itself."""

    sampled_at: float  # seconds since 1970
    interval_s: float
    sequence: int  # increases with every sample of one sampler
    sampler: str  # the process that sampled: holder name of the leader, or of the web process
    epoch: int  # fencing epoch of the leader; 0 for a web process's own sample
    sources: tuple[SourceStats, ...]
    queues: tuple[QueueStats, ...]  # sorted by source, backend, name
    history_version: int = 0  # increases when the hour of history behind the sparklines gets a new point
    samples_total: int | None = None  # that leaders have published so far; None in a sample that no leader took
    history_problem: HistoryProblem | None = None  # as of the sample before; None: it is recorded, or unknown
    settings_digest: str = ""  # of the process that sampled it (sources, libraries, rules); "" if it has none

    def find(self, source: str, backend: str, name: str) -> QueueStats | None:
        """The queue with this address; None if the snapshot has no such queue."""
        for queue in self.queues:
            if queue.name == name and queue.backend == backend and queue.source == source:
                return queue
        return None
