"""Workers and schedules, read at most once per interval for all viewers of a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..backends.base import Backend
from ..backends.monitored_sources import MonitoredSources
from ..backends.unreadable_data import data_errors_foreseen
from ..errors import QueuedeckError
from ..model import Capability, QueueRef, Schedule, Snapshot, Worker
from ..sources.metering import measure_cost
from ..store.cache import SingleFlightCache

T = TypeVar("T", Worker, Schedule)


@dataclass(frozen=True, slots=True)
class LiveRows(Generic[T]):
    """What all sources reported: `rows` by source and library, `problems` = (source, library, why it is unreadable)."""

    rows: tuple[T, ...]
    problems: tuple[tuple[str, str, str], ...]
    commands: int
    round_trips: int
    cost_s: float


class LiveList(Generic[T]):
    """Caches the last rows; one thread reads new ones while the others wait for them. Thread-safe."""

    def __init__(
        self,
        watch: MonitoredSources,
        capability: Capability,
        ask: Callable[[Backend, Sequence[QueueRef]], Sequence[T]],
        keep_s: float,
    ) -> None:
        self._watch = watch
        self._capability = capability
        self._ask: Callable[[Backend, Sequence[QueueRef]], Sequence[T]] = ask
        self._rows: SingleFlightCache[LiveRows[T]] = SingleFlightCache(keep_s)

    def current_rows(self, snapshot: Snapshot | None) -> LiveRows[T]:
        """The rows, at most `keep_s` old. Cost: at most 2 round trips per source and library that has queues."""
        return self._rows.get("", lambda: self._read_rows(snapshot))

    def invalidate(self) -> None:
        """Discard the cached rows, so that the next viewer sees the effect of an action."""
        self._rows.invalidate()

    def _read_rows(self, snapshot: Snapshot | None) -> LiveRows[T]:
        refs: dict[tuple[str, str], list[QueueRef]] = {}
        for queue in snapshot.queues if snapshot else ():
            refs.setdefault((queue.source, queue.backend), []).append(queue.ref)
        rows: list[T] = []
        problems: list[tuple[str, str, str]] = []
        with measure_cost() as meter:
            for (source, name), known in refs.items():
                try:
                    backend = self._watch.backend(source, name)
                    if self._capability in backend.capabilities:
                        with data_errors_foreseen(f"the {self._capability.value} of {backend.title}"):
                            rows.extend(self._ask(backend, known))
                except QueuedeckError as exc:
                    problems.append((source, name, exc.message))
        return LiveRows(tuple(rows), tuple(problems), meter.commands, meter.round_trips, meter.seconds)
