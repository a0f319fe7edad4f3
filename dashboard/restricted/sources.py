"""The sources as someone with some rights sees them: without those on which no queue can be visible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..backends.monitored_sources import MonitoredSources
from ..model import QueueStats
from ..rights.rights import Rights
from .backend import restrict_backend


def restrict_sources(
    whole: MonitoredSources, rights: Rights, current_queues: Callable[[], Sequence[QueueStats]]
) -> MonitoredSources:
    """The sources and libraries of which some queue can be visible. They share the connections of `whole`.

    `current_queues` returns all queues, also those that may not be seen.
    """

    def queues_of(source: str, backend: str) -> list[QueueStats]:
        return [queue for queue in current_queues() if queue.source == source and queue.backend == backend]

    known = [name for name in whole.sources if rights.may_know_source(name)]
    return MonitoredSources(
        sources={name: whole.sources[name] for name in known},
        backends={
            name: tuple(
                restrict_backend(backend, rights, partial(queues_of, name, backend.name))
                for backend in whole.backends[name]
                if rights.may_know_library(name, backend.name)
            )
            for name in known
        },
        own=whole.own,
        settings_digest=whole.settings_digest,
    )
