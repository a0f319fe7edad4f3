"""Discovery of Sidekiq's queues: from Sidekiq's own keys first, then by a scan of the key space.

The scan finds namespaces (6.x only) and lists that are missing from the set of queues: when a process stops, its
unfinished jobs return to their queue, but the queue is not added to the set. Others can use the same key names,
so the counter, a process or a job in them must look like Sidekiq's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from redis.exceptions import ResponseError

from ...sources.source import Command, Reply, Source, text
from ..base import Budget
from ..bounded_reads import ends_of_keys, short_fields
from ..payloads.decoding import loads_dict, names_in
from ..scan import scan_step
from .keys import PRIVATE, QUEUE, SETS, NamespaceLocation

COUNTER = "stat:processed"
SETS_LIMIT = 1000
# Keys that each reveal a namespace, and a glob that matches all their names and few others, as SCAN takes only one.
KNOWN = (COUNTER, "processes", *SETS.values())
KNOWN_GLOB = "*[sde][sute][elra][deys]"
# How many namespaces without a counter one search checks: keys of other programs can end in the same words.
MOST_UNCOUNTED = 30
COMMANDS_EACH = 10
HEADS = 20
HEADS_BYTES, INFO_BYTES = 4 * 1024 * 1024, 64 * 1024
_IDENTITY = re.compile(r".+:\d{1,10}:[0-9a-f]{12}\Z", re.DOTALL)


class DiscoveryCursor(NamedTuple):
    """The position of a search: first for keys that reveal namespaces, then for the lists of those namespaces.

    `refused`: namespaces without a counter that are not Sidekiq's.
    """

    lists: bool = False
    scan: int = 0
    namespaces: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()


def discover_step(
    source: Source, cursor: DiscoveryCursor | None, budget: Budget
) -> tuple[list[NamespaceLocation], DiscoveryCursor | None]:
    """The locations found by the next step, and the cursor of the following one; None when the search is complete.

    Cost: at most 3 round trips for all new namespaces, and as many as `budget` allows for the scan of the keys.
    """
    found: list[NamespaceLocation] = []
    if cursor is None:
        found.extend(_indexed_locations(source, [""]))
        cursor = DiscoveryCursor(namespaces=frozenset({""} if found else ()))
    if not cursor.lists:
        known, following = scan_step(source, cursor.scan, budget, match=KNOWN_GLOB)
        named = _known_namespaces(known)
        new = sorted(name for name, by in named.items() if name not in cursor.namespaces and COUNTER in by)
        room = MOST_UNCOUNTED - len(cursor.refused)
        uncounted = sorted(named.keys() - {*new, *cursor.namespaces, *cursor.refused})[:room]
        budget.commands -= COMMANDS_EACH * len(uncounted)  # so that many of them make searches less frequent
        new += uncounted
        found.extend(_indexed_locations(source, new))
        namespaces = cursor.namespaces | {place.namespace for place in found}
        refused = cursor.refused | {name for name in new if COUNTER not in named[name]} - namespaces
        cursor = DiscoveryCursor(following == 0, following, namespaces, refused)
        if following:
            return found, cursor
    if not cursor.namespaces:
        return found, None
    lists, following = scan_step(source, cursor.scan, budget, match=f"*{QUEUE}*", key_type="list")
    for key in lists:
        namespace, _, name = text(key).partition(QUEUE)
        if namespace in cursor.namespaces and name and not name.startswith(PRIVATE):
            found.append(NamespaceLocation(namespace, name))
    return found, None if following == 0 else cursor._replace(scan=following)


def _known_namespaces(known: Iterable[bytes]) -> dict[str, set[str]]:
    """The names of KNOWN that exist, by namespace with its colon; "" is read without a search."""
    found: dict[str, set[str]] = {}
    for key in known:
        name = text(key)
        for word in KNOWN:
            if name.endswith(f":{word}"):
                found.setdefault(name.removesuffix(word), set()).add(word)
    return found


def _indexed_locations(source: Source, namespaces: Sequence[str]) -> Iterable[NamespaceLocation]:
    """The queues that Sidekiq itself lists, and the entry for the shared sets, of each namespace that is Sidekiq's."""
    replies = source.run_batch(
        [
            command
            for namespace in namespaces
            for command in (
                ("SSCAN", f"{namespace}queues", 0, "COUNT", SETS_LIMIT),
                ("SSCAN", f"{namespace}processes", 0, "COUNT", SETS_LIMIT),
                ("GETRANGE", f"{namespace}{COUNTER}", 0, 20),
                ("EXISTS", *(f"{namespace}{name}" for name in SETS.values())),
            )
        ]
    )
    queues, processes = ([_member_names(reply) for reply in replies[at::4]] for at in (0, 1))
    sure = {n for n, counter in enumerate(replies[2::4]) if isinstance(counter, bytes) and counter.isdigit()}
    listed = [(n, identity) for n, identities in enumerate(processes) for identity in identities]
    infos = short_fields(source, [(f"{namespaces[n]}{identity}", "info") for n, identity in listed], INFO_BYTES)
    for (n, identity), info in zip(listed, infos, strict=True):
        if _IDENTITY.match(identity) or (info and not isinstance(info, ResponseError)):
            sure.add(n)
        listens = loads_dict(info if isinstance(info, bytes) else None).get("queues")
        if isinstance(listens, list):
            queues[n].extend(names_in(listens))
    asked: list[tuple[int, tuple[str, Command]]] = []
    for n, namespace in enumerate(namespaces):
        if n not in sure:
            lists = [f"{namespace}{QUEUE}{name}" for name in queues[n][:HEADS]]
            asked += [(n, (key, ("LINDEX", key, -1))) for key in lists]
            # A dead job may not be JSON, so the first entry alone is not conclusive.
            sets = [f"{namespace}{name}" for name in (SETS.values() if replies[n * 4 + 3] else ())]
            asked += [(n, (key, ("ZRANGE", key, at, at))) for key in sets for at in (0, -1)]
    heads = ends_of_keys(source, [command for _, command in asked], HEADS_BYTES)
    sure |= {n for (n, _), head in zip(asked, heads, strict=True) if _is_job(head)}
    for n in sorted(sure):
        yield NamespaceLocation(namespaces[n], None)
        yield from (NamespaceLocation(namespaces[n], name) for name in dict.fromkeys(queues[n]))


def _is_job(head: Reply) -> bool:
    """Whether this is a payload as Sidekiq writes it; another program can use the same key names."""
    raw = head[0] if isinstance(head, list) and head else head
    job = loads_dict(raw if isinstance(raw, bytes) else None)
    return isinstance(job.get("jid"), str) and isinstance(job.get("class"), str) and isinstance(job.get("args"), list)


def _member_names(reply: Reply) -> list[str]:
    return [text(member) for member in reply[1]] if isinstance(reply, list) else []
