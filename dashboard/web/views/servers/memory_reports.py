"""The memory of queues as their page and the API show it: measured when someone asks, for all viewers of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ....backends.monitored_sources import MonitoredSources
from ....clock import now_s
from ....memory_usage.measurement import measure_memory
from ....memory_usage.memory_report import MemoryReport
from ....model import QueueStats
from ....store.cache import SingleFlightCache

KEEP_S = 600.0
# A user can ask for a new measurement this long after the last one.
AGAIN_S = 30.0


class MemoryReports:
    """The last measurement of each source. Thread-safe; each source is measured by one thread at a time."""

    def __init__(self, sources: MonitoredSources, current_queues: Callable[[], Sequence[QueueStats]]) -> None:
        self._sources = sources
        self._current_queues = current_queues
        self._reports: SingleFlightCache[MemoryReport] = SingleFlightCache(KEEP_S)
        self._lock = threading.Lock()
        self._outdated: dict[str, float] = {}  # source -> when the measurement was taken that is not wanted any more

    def read_report(self, name: str, *, again: bool = False) -> MemoryReport:
        """The memory of the queues on the source `name`, at most KEEP_S old; with `again`, at most AGAIN_S.

        Raises BackendUnavailable, Forbidden. Cost: mostly none, else as measure_memory.
        """
        report = self._measured(name)
        if again and now_s() - report.at > AGAIN_S:
            with self._lock:
                self._outdated[name] = max(report.at, self._outdated.get(name, 0.0))
            report = self._measured(name)
        return report

    def _measured(self, name: str) -> MemoryReport:
        def measure() -> MemoryReport:
            queues = [queue for queue in self._current_queues() if queue.source == name]
            return measure_memory(self._sources.sources[name], queues, self._sources.backend)

        return self._reports.get(name, measure, self._outdated.get(name))
