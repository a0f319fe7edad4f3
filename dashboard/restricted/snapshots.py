"""The snapshot as someone with some rights sees it: without the queues that may not be seen, and what covers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msgspec.structs import replace as replace_value

from ..model import Snapshot, SourceStats
from ..rights.right import Right
from ..rights.rights import Rights
from ..sampling.last_known import KnownFigures
from ..sampling.recent_history import History, sum_histories
from ..sampling.snapshot_reader import CurrentSnapshot, SnapshotSource
from ..store.cache import SingleFlightCache


class RestrictedSnapshots(SnapshotSource):
    """Reads what `inner` reads, and leaves out what may not be seen. Thread-safe."""

    def __init__(self, inner: SnapshotSource, rights: Rights) -> None:
        self._inner = inner
        self._rights = rights
        self._readings: SingleFlightCache[tuple[Snapshot | None, History]] = SingleFlightCache()
        self._last_history: tuple[History, History] | None = None
        self.last_known: KnownFigures = RestrictedFigures(inner.last_known, rights)

    def current(self) -> CurrentSnapshot:
        """The newest reading. Cost: as that of `inner`, and for each new one a pass over its queues."""
        return self._restrict(self._inner.current())

    def current_or_wait(self) -> CurrentSnapshot:
        """As `current`, but of this second."""
        return self._restrict(self._inner.current_or_wait())

    def _restrict(self, current: CurrentSnapshot) -> CurrentSnapshot:
        def build() -> tuple[Snapshot | None, History]:
            snapshot = current.snapshot
            return snapshot and restrict_snapshot(snapshot, self._rights), self._restrict_history(current.history)

        snapshot, history = self._readings.get("", build, current.version)
        return replace(current, snapshot=snapshot, history=history)

    def _restrict_history(self, whole: History) -> History:
        """The part of the history that may be seen: computed again only when it has a new point."""
        last = self._last_history
        if last is None or last[0] is not whole:
            self._last_history = last = (whole, restrict_history(whole, self._rights))
        return last[1]


class RestrictedFigures(KnownFigures):
    """The last known figures of sources that cannot be read, of the queues that may be seen."""

    def __init__(self, inner: KnownFigures, rights: Rights) -> None:
        self._inner = inner
        self._rights = rights

    def fill(self, snapshot: Snapshot) -> tuple[Snapshot, Mapping[str, float]]:
        """As that of `inner`."""
        filled, taken_at = self._inner.fill(snapshot)
        return restrict_snapshot(filled, self._rights), taken_at


def restrict_snapshot(snapshot: Snapshot, rights: Rights) -> Snapshot:
    """`snapshot` without the queues and sources that may not be seen. Pure."""
    return replace_value(
        snapshot,
        sources=tuple(_restrict_source(each, rights) for each in snapshot.sources if rights.may_know_source(each.name)),
        queues=tuple(
            queue for queue in snapshot.queues if rights.may(Right.VIEW, queue.source, queue.backend, queue.name)
        ),
    )


def _restrict_source(source: SourceStats, rights: Rights) -> SourceStats:
    """`source` without what is about queues that may not be seen: names in messages, and sums over all queues."""
    if rights.may_all_on(Right.VIEW, source.name):
        return source
    libraries = tuple(name for name in source.libraries if rights.may_know_library(source.name, name))
    return replace_value(source, libraries=libraries, together_per_min=None, together_total=None, problems=())


def restrict_history(history: History, rights: Rights) -> History:
    """`history` without the queues and sources that may not be seen; its totals are sums of the others. Pure."""
    queues = {key: each for key, each in history.queues.items() if rights.may(Right.VIEW, *key.split("\0", 2))}
    memory = {name: each for name, each in history.memory.items() if rights.may_know_source(name)}
    return replace_value(history, queues=queues, totals=sum_histories(queues.values()), memory=memory)
