"""Resolves an exchange and a routing key to a queue: unacknowledged messages name these, and usually no queue.

Layout: kombu `transport/redis.py` and `transport/virtual/exchange.py`: the set `_kombu.binding.<exchange>` of
`routing key, pattern, queue`. A topic's pattern is a regular expression and is not run here; the routing key is
equivalent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...sources.source import Source, raw_bytes, text
from . import keys

# How many exchanges one call looks up, and about how many bindings of each.
MAX_EXCHANGES, MAX_BINDINGS = 50, 1000
UNROUTED = "its exchange and routing key match no queue, or more than one, so its destination is unknown"


class MessageRoute(NamedTuple):
    """The exchange "" is the default exchange: its routing key is the name of the queue."""

    exchange: str
    routing_key: str


class QueueRoutes:
    """The queues that the routes of one key prefix lead to, as far as they were looked up."""

    def __init__(self, broker: Source, prefix: str) -> None:
        self._broker = broker
        self._prefix = prefix
        self._bound: dict[str, list[tuple[str, bool, str]]] = {}  # exchange -> (routing key, is a topic's, queue)

    def look_up(self, routes: Iterable[MessageRoute | None]) -> None:
        """Read the bindings of the routes' exchanges. Cost: 1 round trip; none if all name their queue."""
        asked = {route.exchange for route in routes if route is not None and route.exchange}
        names = sorted(asked - set(self._bound))[:MAX_EXCHANGES]
        bindings = [raw_bytes(f"{self._prefix}{keys.BINDING}{name}") for name in names]
        replies = self._broker.run_batch([("SSCAN", key, 0, "COUNT", MAX_BINDINGS) for key in bindings])
        for name, reply in zip(names, replies, strict=True):
            whole = isinstance(reply, list) and reply[0] == b"0"
            self._bound[name] = (
                [one for member in reply[1] if (one := _parse_binding(name, text(member)))] if whole else []
            )

    def queue_of(self, route: MessageRoute | None) -> str | None:
        """Return the queue that a route leads to; None if there is none, or more than one."""
        if route is None or not route.exchange:
            return route.routing_key if route else None
        bound = self._bound.get(route.exchange, ())
        found = {
            queue
            for key, topic, queue in bound
            if key == route.routing_key or (topic and _matches_topic(key.split("."), route.routing_key.split(".")))
        }
        return found.pop() if len(found) == 1 else None


def _parse_binding(exchange: str, member: str) -> tuple[str, bool, str] | None:
    parts = member.split(keys.SEPARATOR)
    if len(parts) == 3:
        return parts[0], bool(parts[1]), parts[2]
    found = keys.parse_binding(exchange, member)
    return (exchange, False, found[0]) if found else None


def _matches_topic(pattern: list[str], words: list[str]) -> bool:
    """Whether a topic key matches, by kombu's rules: `*` matches one word, `#` one or more, which can be empty.

    Cost: the product of their lengths.
    """
    fits = [True, *[False] * len(words)]  # after how many words
    for part in pattern:
        if part == "#":
            first = fits.index(True) if True in fits else len(words)
            fits = [n > first for n in range(len(fits))]
        else:
            same = (word == part or (part == "*" and word != "") for word in words)
            fits = [False, *(before and fit for before, fit in zip(fits, same, strict=False))]
    return fits[-1]
