"""The sources as someone with some rights sees them: without those on which no queue can be visible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..backends.monitored_sources import MonitoredSources
from ..model import QueueRef
from ..rights.rights import Rights
from .backend import restrict_backend


def restrict_sources(
    whole: MonitoredSources, rights: Rights, all_refs: Callable[[str, str], Sequence[QueueRef]]
) -> MonitoredSources:
    """The sources and libraries of which some queue can be visible. They share the connections of `whole`.

    `all_refs` returns all queues of a library on a source.
    """
    known = [name for name in whole.sources if rights.may_know_source(name)]
    return MonitoredSources(
        sources={name: whole.sources[name] for name in known},
        backends={
            name: tuple(
                restrict_backend(backend, rights, partial(all_refs, name, backend.name))
                for backend in whole.backends[name]
                if rights.may_know_library(name, backend.name)
            )
            for name in known
        },
        own=whole.own,
        settings_digest=whole.settings_digest,
    )
