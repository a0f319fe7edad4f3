"""Queues of libraries that keep some jobs of all queues together: each key prefix has an entry for these jobs too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from ..model import QueueRef
from .base import Backend

# The name of the entry for all queues.
SHARED = "*"


class RefTarget(Protocol):
    """What a ref points to: `queue` is None for the entry for all queues, `key` is QueueRef.key."""

    @property
    def queue(self) -> str | None: ...
    @property
    def key(self) -> str: ...


def build_refs(backend: Backend, targets: Iterable[RefTarget]) -> tuple[QueueRef, ...]:
    """Return the refs of `targets`, each once, without the queues that the settings exclude."""
    return tuple(
        QueueRef(
            source=backend.source.name,
            backend=backend.name,
            name=SHARED if target.queue is None else target.queue,
            key=target.key,
            shared=target.queue is None,
        )
        for target in dict.fromkeys(targets)
        if target.queue is None or backend.includes_queue(target.queue)
    )


def prefix_repeated_names(refs: Sequence[QueueRef], prefix_of: Callable[[QueueRef], str]) -> list[QueueRef]:
    """Return `refs`, in order; a name that several of them have gets the prefix of its keys in front."""
    names = Counter(ref.name for ref in refs)
    return [replace(ref, name=f"{prefix_of(ref)}{ref.name}") if names[ref.name] > 1 else ref for ref in refs]
