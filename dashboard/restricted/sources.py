"""The sources as someone with some rights sees them: without those on which no queue can be visible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..backends.monitored_sources import MonitoredSources
from ..model import QueueStats
from ..rights.rights import Rights
from .backend import restrict_backend


class _QueueIndex:
    """All queues by library and name, sorted out once for each snapshot. Thread-safe: it only replaces one tuple."""

    def __init__(self, current_queues: Callable[[], Sequence[QueueStats]]) -> None:
        self._current_queues = current_queues
        self._last: tuple[Sequence[QueueStats], dict[tuple[str, str], dict[str, QueueStats]]] = ((), {})

    def queues_of(self, source: str, backend: str) -> Mapping[str, QueueStats]:
        """The queues of a library on a source, by name."""
        queues, found = self._current_queues(), self._last
        if found[0] is not queues:
            by_library: dict[tuple[str, str], dict[str, QueueStats]] = {}
            for queue in queues:
                by_library.setdefault((queue.source, queue.backend), {})[queue.name] = queue
            self._last = found = (queues, by_library)
        return found[1].get((source, backend), {})


def restrict_sources(
    whole: MonitoredSources, rights: Rights, current_queues: Callable[[], Sequence[QueueStats]]
) -> MonitoredSources:
    """The sources and libraries of which some queue can be visible. They share the connections of `whole`.

    `current_queues` returns all queues, also those that may not be seen.
    """
    index = _QueueIndex(current_queues)
    known = [name for name in whole.sources if rights.may_know_source(name)]
    return MonitoredSources(
        sources={name: whole.sources[name] for name in known},
        backends={
            name: tuple(
                restrict_backend(backend, rights, partial(index.queues_of, name, backend.name))
                for backend in whole.backends[name]
                if rights.may_know_library(name, backend.name)
            )
            for name in known
        },
        own=whole.own,
        settings_digest=whole.settings_digest,
    )
