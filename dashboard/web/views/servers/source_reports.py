"""Reports that take a while, on one source each: made when someone asks, for all viewers of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

from ....backends.base import Backend
from ....backends.monitored_sources import MonitoredSources
from ....clock import now_s
from ....model import QueueStats
from ....sources.source import Source
from ....store.cache import SingleFlightCache

KEEP_S = 600.0
# A user can ask for a new report this long after the last one.
AGAIN_S = 30.0


class MeasuredReport(Protocol):
    """What every report has: when it was made, in seconds since 1970 by this host's clock, and what it cost."""

    @property
    def at(self) -> float: ...
    @property
    def commands(self) -> int: ...
    @property
    def round_trips(self) -> int: ...
    @property
    def seconds(self) -> float: ...


Report = TypeVar("Report", bound=MeasuredReport)
Measure: TypeAlias = Callable[[Source, Sequence[QueueStats], Callable[[str, str], Backend]], Report]


class SourceReports(Generic[Report]):
    """The last report on each source. Thread-safe; each is made by one thread at a time."""

    def __init__(
        self, measure: Measure[Report], sources: MonitoredSources, current_queues: Callable[[], Sequence[QueueStats]]
    ) -> None:
        """`measure` makes the report on a source and the queues there."""
        self._measure: Measure[Report] = measure
        self._sources = sources
        self._current_queues = current_queues
        self._reports: SingleFlightCache[Report] = SingleFlightCache(KEEP_S)
        self._lock = threading.Lock()
        self._outdated: dict[str, float] = {}  # source -> when the report was made that is not wanted any more

    def read_report(self, name: str, *, again: bool = False) -> Report:
        """The report on the source `name`, at most KEEP_S old; with `again`, at most AGAIN_S.

        Raises BackendUnavailable, Forbidden. Cost: mostly none, else as `measure`.
        """
        report = self._make_or_get(name)
        if again and now_s() - report.at > AGAIN_S:
            with self._lock:
                self._outdated[name] = max(report.at, self._outdated.get(name, 0.0))
            report = self._make_or_get(name)
        return report

    def _make_or_get(self, name: str) -> Report:
        def make() -> Report:
            queues = [queue for queue in self._current_queues() if queue.source == name]
            return self._measure(self._sources.sources[name], queues, self._sources.backend)

        return self._reports.get(name, make, self._outdated.get(name))
