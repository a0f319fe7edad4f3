"""Finding Sidekiq's queues: by its own sets first, then by a look through the key space.

The look finds namespaces (6.x only), and lists that the set of queues does not name: unfinished jobs of a process that
was stopped are put back without naming their queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from redis.exceptions import ResponseError

from dashboard.backends.base import Budget
from dashboard.backends.payload import loads_dict, text
from dashboard.backends.scan import scan_step
from dashboard.backends.sidekiq.keys import PRIVATE, QUEUE, Place
from dashboard.sources import Reply, Source

COUNTER = "stat:processed"
SETS_LIMIT = 1000


class Cursor(NamedTuple):
    """Where a search stands: first for counters, which tell namespaces, then for lists of those namespaces."""

    lists: bool = False
    scan: int = 0
    namespaces: frozenset[str] = frozenset()


def step(source: Source, cursor: Cursor | None, budget: Budget) -> tuple[list[Place], Cursor | None]:
    """The places found by the next step, and where to go on; None = all has been seen.

    Cost: 2 round trips for a new namespace, and as many as `budget` allows for the look through the keys.
    """
    found: list[Place] = []
    if cursor is None:
        found.extend(_indexed(source, [""]))
        cursor = Cursor(namespaces=frozenset({""} if found else ()))
    if not cursor.lists:
        counters, following = scan_step(source, cursor.scan, budget, match=f"*{COUNTER}", key_type="string")
        named = {name.removesuffix(COUNTER) for key in counters if (name := text(key)).endswith(COUNTER)}
        new = {name for name in named - cursor.namespaces if not name or name.endswith(":")}
        found.extend(_indexed(source, sorted(new)))
        cursor = Cursor(following == 0, following, cursor.namespaces | {place.namespace for place in found})
        if following:
            return found, cursor
    if not cursor.namespaces:
        return found, None
    lists, following = scan_step(source, cursor.scan, budget, match=f"*{QUEUE}*", key_type="list")
    for key in lists:
        namespace, _, name = text(key).partition(QUEUE)
        if namespace in cursor.namespaces and name and not name.startswith(PRIVATE):
            found.append(Place(namespace, name))
    return found, None if following == 0 else cursor._replace(scan=following)


def _indexed(source: Source, namespaces: list[str]) -> Iterable[Place]:
    """The queues that Sidekiq itself names, and the entry of the shared sets, where a namespace is Sidekiq's."""
    replies = source.batch(
        [
            command
            for namespace in namespaces
            for command in (
                ("SSCAN", f"{namespace}queues", 0, "COUNT", SETS_LIMIT),
                ("SSCAN", f"{namespace}processes", 0, "COUNT", SETS_LIMIT),
                ("GETRANGE", f"{namespace}{COUNTER}", 0, 20),
            )
        ]
    )
    for n, namespace in enumerate(namespaces):
        names, identities, counter = replies[n * 3 : n * 3 + 3]
        queues, processes = _members(names), _members(identities)
        infos = source.batch([("HGET", f"{namespace}{identity}", "info") for identity in processes])
        for info in infos:
            listens = loads_dict(info if isinstance(info, bytes) else None).get("queues")
            if isinstance(listens, list):
                queues.extend(name for name in listens if isinstance(name, str))
        counts = isinstance(counter, bytes) and counter.isdigit()
        if (
            counts
            or any(not isinstance(info, ResponseError) and info for info in infos)
            or _has_jobs(source, namespace, queues)
        ):
            yield Place(namespace, None)
            yield from (Place(namespace, name) for name in dict.fromkeys(queues))


def _has_jobs(source: Source, namespace: str, queues: list[str]) -> bool:
    """Whether a queue holds a payload as Sidekiq writes it; the sets alone could be anybody's."""
    heads = source.batch([("LINDEX", f"{namespace}{QUEUE}{name}", -1) for name in queues[:20]])
    return any(isinstance(head, bytes) and isinstance(loads_dict(head).get("jid"), str) for head in heads)


def _members(reply: Reply) -> list[str]:
    return [text(member) for member in reply[1]] if isinstance(reply, list) else []
