"""Samples of a real library's queues as the sampler takes them, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dashboard.backends.base import Backend
from dashboard.model import QueueFlow, QueueStats
from dashboard.sampling.rates import FlowWindow
from tests.search import search


class SampleSeries:
    """Queue stats with their rates, sample by sample; each sample is two seconds after the one before."""

    def __init__(self, backend: Backend, settle: Callable[[], None] = lambda: None) -> None:
        """`settle` is called before each sample."""
        self._backend = backend
        self._settle = settle
        self._cursor: Any = None
        self._seen: dict[str, Any] = {}
        self._windows: dict[str, FlowWindow] = {}
        self._together: FlowWindow | None = None
        self._at = 1000.0
        self.flows: dict[str, QueueFlow] = {}  # of the last sample, by queue

    def take_sample(self) -> dict[str, QueueStats]:
        """All queues by name."""
        self._settle()
        refs = self._backend.disambiguate(search(self._backend))
        rows = self._backend.refresh_stats(refs, self._seen)
        delta, self._cursor = self._backend.read_flow(refs, self._cursor)
        self._at += 2
        by_key = {row.key: row for row in rows}
        self.flows = {by_key[flow.key].name: flow for flow in delta.queues}
        for flow in delta.queues:
            self._windows.setdefault(flow.key, FlowWindow()).add(self._at, flow, by_key[flow.key])
        self._together = self._together or FlowWindow() if delta.together else None
        if self._together is not None and delta.together is not None:
            self._together.add(self._at, delta.together)
        return {row.name: self._windows[row.key].fill_rates(row, self._at) for row in rows}

    @property
    def together(self) -> float | None:
        """How many jobs finished in the queues that cannot be told apart."""
        return self._together.rates(self._at).finished_15min if self._together else None


def rates_of(row: QueueStats) -> tuple[float | None, float | None, float | None]:
    """How many jobs finished and failed, and the error ratio; None where no rate is shown."""
    finished = None if row.throughput_per_min is None else row.finished_15min
    failed = None if row.failed_per_min is None else row.failed_15min
    return finished, failed, None if row.error_ratio is None else round(row.error_ratio, 4)


def classes_of(flow: QueueFlow) -> dict[str, tuple[int, int]] | None:
    """How many jobs of each class completed and died; None where the library does not tell."""
    return None if flow.classes is None else {one.job_class: (one.completed, one.dead) for one in flow.classes}
