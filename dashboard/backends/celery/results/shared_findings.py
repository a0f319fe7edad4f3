"""What other processes need to know from the one that maintains the index: queues, schedules, running tasks.

Each is a set of our own, written if it changed, and again before it expires.
"""

from __future__ import annotations

from collections.abc import Iterable

from ....clock import monotonic_s
from ....sources.source import Command, raw_bytes
from ..keys import queues_key, redbeat_key, started_key

STARTED_TTL_S, MAX_STARTED = 60, 1000
QUEUES_TTL_S, MAX_QUEUES = 3600, 5000


class SharedFindings:
    """Remembers what was written of each set, and when."""

    def __init__(self, source: str) -> None:
        self._source = source
        # Last written, and when, monotonic.
        self._queues_written: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._redbeats_written: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._started_written: tuple[frozenset[str], float] = (frozenset(), 0.0)

    def queues_to_write(self, queues: frozenset[str]) -> Iterable[Command]:
        """Return the commands that write the location keys of the queues."""
        written, at = self._queues_written
        if not queues or (queues == written and monotonic_s() - at < QUEUES_TTL_S / 2):
            return []
        self._queues_written = (queues, monotonic_s())
        key = queues_key(self._source)
        names = [raw_bytes(name) for name in sorted(queues)[:MAX_QUEUES]]
        return [("DEL", key), ("SADD", key, *names), ("EXPIRE", key, QUEUES_TTL_S)]

    def redbeats_to_write(self, redbeats: frozenset[str]) -> Iterable[Command]:
        """Return the commands that write the key prefixes of schedules."""
        written, at = self._redbeats_written
        if redbeats == written and (not written or monotonic_s() - at < QUEUES_TTL_S / 2):
            return []
        self._redbeats_written = (redbeats, monotonic_s())
        key = redbeat_key(self._source)
        names = [raw_bytes(name) for name in sorted(redbeats)]
        added: list[Command] = [("SADD", key, *names), ("EXPIRE", key, QUEUES_TTL_S)] if names else []
        return [("DEL", key), *added]

    def started_to_write(self, running: frozenset[str]) -> Iterable[Command]:
        """Return the commands that write the ids of running tasks."""
        written, at = self._started_written
        if running == written and (not running or monotonic_s() - at < STARTED_TTL_S / 2):
            return []
        self._started_written = (running, monotonic_s())
        key = started_key(self._source)
        names = [raw_bytes(each) for each in sorted(running)[:MAX_STARTED]]
        added: list[Command] = [("SADD", key, *names), ("EXPIRE", key, STARTED_TTL_S)] if names else []
        return [("DEL", key), *added]

    def write_again(self) -> None:
        """Write all sets with the next call, because the last write may have failed."""
        self.write_queues_again()
        self._redbeats_written = self._started_written = (frozenset(), 0.0)

    def write_queues_again(self) -> None:
        """Write the queues with the next call."""
        self._queues_written = (frozenset(), 0.0)
