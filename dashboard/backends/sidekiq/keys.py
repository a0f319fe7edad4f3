"""Names of Sidekiq's keys, 6.0 to 8.1. Layout: sidekiq `lib/sidekiq/api.rb`, `client.rb`, `launcher.rb`."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from ...model import QueueRef, QueueStorage, State, StoredKey
from ...model.storage import no_id, no_job_keys
from ...sources.source import raw_bytes
from ..bounded_reads import shared_script
from ..lua_reads import read_scripts
from ..shared_entries import SHARED

QUEUE = "queue:"
# The sets that all queues of a namespace share.
SETS = {State.SCHEDULED: "schedule", State.RETRYING: "retry", State.DEAD: "dead"}
NATIVE = {
    State.WAITING: "enqueued",
    State.ACTIVE: "busy",
    State.SCHEDULED: "scheduled",
    State.RETRYING: "retry",
    State.DEAD: "dead",
}
ORDERS = {
    State.WAITING: "next to run first",
    State.ACTIVE: "longest running first",
    State.SCHEDULED: "due soonest first",
    State.RETRYING: "next try soonest first",
    State.DEAD: "newest death first",
}
ID_PATTERN = '"jid": ?"([%w_-]+)"'
OF_A_QUEUE = (State.WAITING, State.ACTIVE)
CRON_JOB = "cron_job:"
# The label of the fact of a worker or schedule that holds the namespace with which its id begins.
NAMESPACE = "Namespace"
# Deletions that can still be undone, stored next to their queues. A job that is not among them is not restored.
DELETED = "{queuedeck}:deleted"
# Lists in which reliable fetchers store the jobs that a process has fetched; they are not queues.
PRIVATE = ("sq|", "working:")
PRIVATE_KEYS = (f"{QUEUE}sq|", f"working:{QUEUE}")


# The keys that actions change, as patterns: queues, sets, signals to processes, the schedules of the add-ons.
CHANGED = (
    *("queue:*", "queues", "schedule", "retry", "dead", "processes", "*-signals", "it-*"),
    *(f"{CRON_JOB}*", "sidekiq-scheduler:states"),
)


class NamespaceLocation(NamedTuple):
    """Where a ref points: `namespace` with its colon, or ""; `queue` is None for the sets shared by all queues."""

    namespace: str
    queue: str | None

    @property
    def key(self) -> str:
        """The value of QueueRef.key."""
        return f"{self.namespace}{QUEUE}{self.queue}" if self.queue is not None else f"{self.namespace}{SHARED}"


def location_of(ref: QueueRef) -> NamespaceLocation:
    """The namespace and queue of a ref."""
    if ref.shared:
        return NamespaceLocation(ref.key[: -len(SHARED)], None)
    namespace, _, queue = ref.key.partition(QUEUE)
    # A namespace can contain "queue:" too. The ref's name is the queue's name, unless it begins with the namespace.
    if ref.key.endswith(f"{QUEUE}{ref.name}"):
        return NamespaceLocation(ref.key[: -len(ref.name) - len(QUEUE)], ref.name)
    return NamespaceLocation(namespace, queue)


def describe_storage(place: NamespaceLocation) -> QueueStorage:
    """The keys of a queue, or of the sets that all queues of a namespace share. Jobs are stored whole."""
    private = tuple(raw_bytes(f"{place.namespace}{start}") for start in PRIVATE_KEYS)
    if place.queue is not None:
        found = [StoredKey(raw_bytes(place.key), "list", State.WAITING)]
    else:
        found = [StoredKey(raw_bytes(f"{place.namespace}{name}"), "zset", state) for state, name in SETS.items()]
    return QueueStorage(tuple(found), no_id, no_job_keys, ID_PATTERN, private=() if place.queue else private)


@cache
def load_script(name: str) -> str:
    """The text of a reading script in `lua/`, preceded by the functions that all of them share."""
    names = ("common", "brief", name) if name in ("stats", "processes") else ("common", name)
    return "\n".join((shared_script("oldest" if name == "stats" else None), read_scripts(__package__, *names)))


@cache
def load_writing_script(name: str) -> str:
    """The text of a script in `lua/` that changes jobs, preceded by the functions that all of them share."""
    return "\n".join((shared_script(), read_scripts(__package__, "writing", name)))
