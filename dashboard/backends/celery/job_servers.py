"""The servers from which jobs of one source are read, and what our own keys store about its results."""

from __future__ import annotations

from typing import NamedTuple

from ...sources.source import Command, Reply, Source
from ..lua_reads import Scripts
from . import keys


class JobServers(NamedTuple):
    """Where the jobs of one source are: `broker` holds the messages, `results` the records, `own` their index, under
    keys that contain `name`. `scripts` run on the broker.
    """

    broker: Source
    results: Source
    own: Source | None
    name: str
    scripts: Scripts
    unacked_keys: keys.UnackedKeys

    @property
    def own_with_broker(self) -> bool:
        """Whether our own keys are on the broker, and so can be read in the same round trip as messages."""
        return self.own is self.broker

    def facts_command(self, place: keys.QueueLocation) -> Command:
        """Return the command that reads what our own keys store about the results."""
        return ("HGET", keys.results_key(self.name), place.prefix.encode("utf-8", "surrogateescape"))

    def own_facts(self, place: keys.QueueLocation) -> Reply:
        """Return what our own keys store about the results. Cost: 1 round trip."""
        return None if self.own is None else self.own.run_batch([self.facts_command(place)])[0]
