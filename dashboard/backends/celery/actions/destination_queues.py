"""Check that a destination queue exists: a message in a list that no exchange is bound to would never be consumed."""

from __future__ import annotations

from collections.abc import Collection

from ....sources.source import Source, raw_bytes
from ...payloads.decoding import printable
from .. import keys


class DestinationQueues:
    """The queues under the prefix of one location, as far as they were looked up."""

    def __init__(self, broker: Source, own: Source | None, name: str, place: keys.QueueLocation) -> None:
        self._broker = broker
        self._own = own
        self._name = name
        self._prefix = place.prefix
        self._separator = place.separator
        self._there: dict[str, bool] = {}
        self._separators: dict[str, str] = {}
        self._elsewhere: dict[str, bool] = {}

    def look_up(self, queues: Collection[str]) -> None:
        """Look up all `queues` together. Cost: 1 round trip, 2 if Queuedeck's own keys are on another server."""
        names = sorted(queues)
        asked = self._broker.run_batch(
            [
                (
                    "EXISTS",
                    self._binding_key(name),
                    *keys.QueueLocation(self._prefix, name, self._separator).list_keys(),
                )
                for name in names
            ]
        )
        known = self._found_queues()
        self._separators |= {
            place.queue: place.separator for place in known if place.queue and self._has_own_prefix(place)
        }
        for name, exists in zip(names, asked, strict=True):
            self._there[name] = (isinstance(exists, int) and exists > 0) or name in self._separators
            self._elsewhere[name] = any(place.queue == name and not self._has_own_prefix(place) for place in known)

    def _has_own_prefix(self, place: keys.QueueLocation) -> bool:
        return place.prefix == self._prefix

    def _found_queues(self) -> set[keys.QueueLocation]:
        """Return the queues found by the last scans, whichever exchange they are bound to."""
        reply = self._own.run_batch([("SMEMBERS", keys.queues_key(self._name))])[0] if self._own is not None else None
        return {keys.place_of(raw) for raw in reply} if isinstance(reply, list | set) else set()

    def explain_refusal(self, queue: str, record: bytes) -> str | None:
        """Return why nothing is sent to `queue`, named by the record under the key `record`; None if it can be."""
        shown = printable(queue, 100)
        if not self.exists(queue):
            return f"there is no queue {shown!r}: it is a topic's routing key, or the queue no longer exists"
        # If the results have a prefix too, it identifies the queue.
        if self._elsewhere.get(queue, False) and record.startswith(keys.RECORD.encode()):
            return f"queue {shown!r} exists under several key prefixes, and the record does not say which one it ran in"
        return None

    def exists(self, queue: str) -> bool:
        """Whether a queue that was looked up exists."""
        return self._there.get(queue, False)

    def list_key(self, queue: str) -> bytes:
        """Return the key of the list that holds a queue's messages without priority."""
        return self.list_keys(queue)[0]

    def list_keys(self, queue: str) -> list[bytes]:
        """Return the keys of a queue's message lists, as `QueueLocation.list_keys` does."""
        return keys.QueueLocation(self._prefix, queue, self._separators.get(queue, self._separator)).list_keys()

    def _binding_key(self, queue: str) -> bytes:
        return raw_bytes(f"{self._prefix}{keys.BINDING}{queue}")
