"""Finding queues: RQ keeps a directory of every queue that was ever used, so no key space is scanned."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.backends.base import Backend, Budget, Discovery
from dashboard.backends.payload import text
from dashboard.backends.rq import keys
from dashboard.backends.rq.keys import DEFAULT_PREFIX, QueueKeys
from dashboard.backends.scan import timed
from dashboard.model import QueueRef

NAMES_PER_CALL = 1000


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the search goes on: which prefix, and where in its directory."""

    prefix: int = 0
    position: int = 0


def discover(backend: Backend, prefixes: tuple[str, ...], place: _Place | None, budget: Budget) -> Discovery:
    """The queues of the next stretch of the directories, and always those that the settings name outright.

    Raises redis.ResponseError when a directory is no set. Cost: 1 round trip per thousand queues, within `budget`.
    """
    found = [_named(name, prefixes) for name in backend.named_queues()]
    place = place or _Place()
    while place.prefix < len(prefixes):
        prefix = prefixes[place.prefix]
        reply, server_s = timed(
            backend.source, "SSCAN", keys.directory(prefix), place.position, "COUNT", NAMES_PER_CALL
        )
        position, members = reply
        more = budget.spend(server_s)
        queues = (keys.queue_keys(text(member), (prefix,)) for member in members)
        found += [queue for queue in queues if queue is not None]
        place = _Place(place.prefix, int(position)) if int(position) else _Place(place.prefix + 1)
        if not more:
            break
    complete = place.prefix >= len(prefixes)
    refs = {queue.shown_name: _ref(backend, queue) for queue in found if backend.shows(queue.shown_name)}
    return Discovery(tuple(refs.values()), complete, None if complete else place)


def _named(name: str, prefixes: tuple[str, ...]) -> QueueKeys:
    """The queue of a name as `shown_name` tells it."""
    for prefix in prefixes:
        if prefix != DEFAULT_PREFIX and name.startswith(f"{prefix}:"):
            return QueueKeys(prefix, name.removeprefix(f"{prefix}:"))
    return QueueKeys(DEFAULT_PREFIX, name)


def _ref(backend: Backend, queue: QueueKeys) -> QueueRef:
    return QueueRef(source=backend.source.name, backend=backend.name, name=queue.shown_name, key=queue.queue)
