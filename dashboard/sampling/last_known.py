"""The figures of a Redis from before its outage."""

from __future__ import annotations

import abc
from collections.abc import Mapping

from msgspec.structs import replace

from ..model import Snapshot, SourceStats


class KnownFigures(abc.ABC):
    """The last known figures of sources, for when they cannot be read."""

    @abc.abstractmethod
    def fill(self, snapshot: Snapshot) -> tuple[Snapshot, Mapping[str, float]]:
        """The snapshot with the last known figures of unreachable sources and their queues, and when those were taken.

        Seconds since 1970, by source. A source that this process has never read stays without figures.
        """


class LastKnownFigures(KnownFigures):
    """The last snapshot of each source in which this process read it or saw it published, to show its figures with
    their age while it is down.

    Thread-safe: it only ever replaces whole entries.
    """

    def __init__(self) -> None:
        self._snapshots: dict[str, Snapshot] = {}

    def remember(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` for each of its sources that could be read."""
        for source in snapshot.sources:
            if source.reachable:
                self._snapshots[source.name] = snapshot

    def fill(self, snapshot: Snapshot) -> tuple[Snapshot, Mapping[str, float]]:
        """As KnownFigures.fill."""
        before = {
            source.name: self._snapshots[source.name]
            for source in snapshot.sources
            if not source.reachable and source.name in self._snapshots
        }
        if not before:
            return snapshot, {}
        sources = tuple(_with_health_of(source, before.get(source.name)) for source in snapshot.sources)
        queues = [queue for queue in snapshot.queues if queue.source not in before]
        for name, known in before.items():
            queues += [queue for queue in known.queues if queue.source == name]
        queues.sort(key=lambda queue: (queue.source, queue.backend, queue.name))
        taken_at = {name: known.sampled_at for name, known in before.items()}
        return replace(snapshot, sources=sources, queues=tuple(queues)), taken_at


def _with_health_of(source: SourceStats, known: Snapshot | None) -> SourceStats:
    before = next((each for each in known.sources if each.name == source.name), source) if known else source
    return replace(source, health=before.health)
