"""Workers and schedules, read at most once per interval for all viewers of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..backends.base import Backend
from ..backends.monitored_sources import MonitoredSources
from ..backends.unreadable_data import data_errors_foreseen
from ..errors import QueuedeckError
from ..model import Capability, QueueRef, QueueStats, Schedule, Worker
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
        current_queues: Callable[[], Sequence[QueueStats]],
        keep_s: float,
        *,
        seen: Callable[[Sequence[T]], None] = lambda _rows: None,
    ) -> None:
        """`current_queues` returns the queues whose libraries are asked; `seen` is called with each reading's rows."""
        self._watch = watch
        self._capability = capability
        self._ask: Callable[[Backend, Sequence[QueueRef]], Sequence[T]] = ask
        self._current_queues = current_queues
        self._seen: Callable[[Sequence[T]], None] = seen
        self._rows: SingleFlightCache[LiveRows[T]] = SingleFlightCache(keep_s)

    def current_rows(self) -> LiveRows[T]:
        """The rows, at most `keep_s` old. Cost: at most 2 round trips per source and library that has queues."""
        return self._rows.get("", self._read_rows)

    def invalidate(self) -> None:
        """Discard the cached rows, so that the next viewer sees the effect of an action."""
        self._rows.invalidate()

    def _read_rows(self) -> LiveRows[T]:
        found = read_live_rows(self._watch, self._capability, self._ask, self._current_queues())
        self._seen(found.rows)
        return found


def read_live_rows(
    watch: MonitoredSources,
    capability: Capability,
    ask: Callable[[Backend, Sequence[QueueRef]], Sequence[T]],
    queues: Iterable[QueueStats],
) -> LiveRows[T]:
    """What the libraries of these queues report now. Cost: at most 2 round trips per source and library."""
    refs: dict[tuple[str, str], list[QueueRef]] = {}
    for queue in queues:
        refs.setdefault((queue.source, queue.backend), []).append(queue.ref)
    rows: list[T] = []
    problems: list[tuple[str, str, str]] = []
    with measure_cost() as meter:
        for (source, name), known in refs.items():
            try:
                backend = watch.backend(source, name)
                if capability in backend.capabilities:
                    with data_errors_foreseen(f"the {capability.value} of {backend.title}"):
                        rows.extend(ask(backend, known))
            except QueuedeckError as exc:
                problems.append((source, name, exc.message))
    return LiveRows(tuple(rows), tuple(problems), meter.commands, meter.round_trips, meter.seconds)
