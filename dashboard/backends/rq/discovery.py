"""Discovery of queues. RQ keeps a directory of every queue that was ever used, so the key space is not scanned.

If the key of the directory holds something else, the workers still list the queues that they serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from redis.exceptions import ResponseError

from ...model import QueueRef
from ...sources.source import Source, text
from ..base import Backend, Budget, Discovery
from ..bounded_reads import short_fields
from ..scan import timed_command
from . import keys
from .keys import DEFAULT_PREFIX, QueueKeys

NAMES_PER_CALL = 1000
NAMES_BYTES = 64 * 1024
NO_DIRECTORY = (
    "{key} is not a set, so only queues that were found earlier or that a worker serves are listed. "
    "Rename or delete it; RQ creates it again."
)


@dataclass(frozen=True, slots=True)
class _DirectoryPosition:
    """Where the next step continues: the index of the prefix, and the cursor in its directory."""

    prefix: int = 0
    position: int = 0
    problem: str | None = None


def discover_queues(
    backend: Backend, prefixes: tuple[str, ...], place: _DirectoryPosition | None, budget: Budget
) -> Discovery:
    """Return the queues of the next part of the directories, and always those that the settings name without wildcard.

    Cost: 1 round trip per thousand queues, within `budget`; 2 more if a directory is not a set.
    """
    found = [_queue_of_name(name, prefixes) for name in backend.named_queues()]
    place = place or _DirectoryPosition()
    while place.prefix < len(prefixes):
        prefix = prefixes[place.prefix]
        directory, problem = keys.directory_key(prefix), place.problem
        try:
            reply, server_s = timed_command(backend.source, "SSCAN", directory, place.position, "COUNT", NAMES_PER_CALL)
        except ResponseError as exc:
            if "WRONGTYPE" not in str(exc):
                raise
            found += _served_queues(backend.source, prefix)
            position, members, server_s, problem = 0, [], 0.0, NO_DIRECTORY.format(key=directory)
        else:
            position, members = reply
        more = budget.spend(server_s)
        queues = (keys.queue_keys(text(member), (prefix,)) for member in members)
        found += [queue for queue in queues if queue is not None]
        at_end = not int(position)
        place = _DirectoryPosition(place.prefix + at_end, 0 if at_end else int(position), problem)
        if not more:
            break
    refs = {queue.shown_name: _build_ref(backend, queue) for queue in found if backend.includes_queue(queue.shown_name)}
    if place.prefix < len(prefixes):
        return Discovery(tuple(refs.values()), complete=False, cursor=place)
    return Discovery(tuple(refs.values()), complete=place.problem is None, cursor=None, problem=place.problem)


def _served_queues(source: Source, prefix: str) -> Iterator[QueueKeys]:
    """Yield the queues that live workers serve. Cost: 2 round trips."""
    reply = source.run_batch([("SSCAN", keys.workers_key(prefix), 0, "COUNT", NAMES_PER_CALL)])[0]
    workers = reply[1][:NAMES_PER_CALL] if isinstance(reply, list) else []
    for names in short_fields(source, [(worker, "queues") for worker in workers], NAMES_BYTES):
        for name in text(names).split(",") if isinstance(names, bytes) else ():
            if name:
                yield QueueKeys(prefix, name)


def _queue_of_name(name: str, prefixes: tuple[str, ...]) -> QueueKeys:
    """Return the queue with a name in the form of `shown_name`."""
    for prefix in prefixes:
        if prefix != DEFAULT_PREFIX and name.startswith(f"{prefix}:"):
            return QueueKeys(prefix, name.removeprefix(f"{prefix}:"))
    return QueueKeys(DEFAULT_PREFIX, name)


def _build_ref(backend: Backend, queue: QueueKeys) -> QueueRef:
    return QueueRef(source=backend.source.name, backend=backend.name, name=queue.shown_name, key=queue.queue)
