"""The keys of RQ 1.16 to 3.0, all built here. Source: rq 3.0, queue.py, registry.py, job.py, results.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

from ...model import QueueStorage, State, StoredKey
from ...sources.source import raw_bytes, text
from ..bounded_reads import shared_script
from ..lua_reads import read_scripts

DEFAULT_PREFIX = "rq"
_EXECUTION = re.compile(r":[0-9a-f]{32}\Z")

# The list of each state: RQ's own word for it, and the infix of its key.
LISTS: Mapping[State, tuple[str, str]] = {
    State.WAITING: ("queued", "queue"),
    State.ACTIVE: ("started", "wip"),
    State.SCHEDULED: ("scheduled", "scheduled"),
    State.BLOCKED: ("deferred", "deferred"),
    State.DEAD: ("failed", "failed"),
    State.COMPLETED: ("finished", "finished"),
    State.CANCELED: ("canceled", "canceled"),
}

# Field `status` of a job -> our state. A `created` job is in no list: it was never enqueued.
STATUSES: Mapping[str, State] = {
    "queued": State.WAITING,
    "started": State.ACTIVE,
    "scheduled": State.SCHEDULED,
    "deferred": State.BLOCKED,
    "rate_limited": State.BLOCKED,  # 3.0: waits until another job with its rate limit key finishes
    "ready_to_enqueue": State.BLOCKED,  # 3.0: its parents finished, RQ is about to enqueue it
    "failed": State.DEAD,
    "stopped": State.DEAD,  # by a user, while it was running; listed in the failed registry
    "finished": State.COMPLETED,
    "canceled": State.CANCELED,
}


@dataclass(frozen=True)
class QueueKeys:
    """The keys of one queue; `name` is RQ's own name, without our prefix."""

    prefix: str
    name: str

    @cached_property
    def queue(self) -> str:
        """The list of waiting ids, which is also the queue's entry in the directory and our QueueRef.key."""
        return f"{self.prefix}:queue:{self.name}"

    @property
    def intermediate(self) -> str:
        """The list of ids that a worker has picked up but not started; only for workers that serve a single queue."""
        return f"{self.queue}:intermediate"

    def list_of(self, state: State) -> str:
        """Return the key of the list or sorted set of a state."""
        return f"{self.prefix}:{LISTS[state][1]}:{self.name}"

    @property
    def workers(self) -> str:
        """The set of the keys of workers that registered for this queue."""
        return f"{self.prefix}:workers:{self.name}"

    @property
    def shown_name(self) -> str:
        """The name in our URLs, including the prefix unless it is RQ's default, so that two prefixes never collide."""
        return self.name if self.prefix == DEFAULT_PREFIX else f"{self.prefix}:{self.name}"

    def job(self, job_id: str) -> str:
        """Return the key of the hash of a job."""
        return f"{self.prefix}:job:{job_id}"

    def dependents(self, job_id: str) -> str:
        """Return the key of the set of ids that depend on a job."""
        return f"{self.prefix}:job:{job_id}:dependents"

    def results(self, job_id: str) -> str:
        """Return the key of the stream with the results of a job's runs, newest last, at most 10 entries."""
        return f"{self.prefix}:results:{job_id}"


def describe_storage(queue: QueueKeys) -> QueueStorage:
    """Return the keys of a queue, and how those of its jobs are named."""
    lists = tuple(
        StoredKey(raw_bytes(queue.list_of(state)), "list" if state is State.WAITING else "zset", state, by_id=True)
        for state in LISTS
    )

    def id_of(stored: StoredKey, member: bytes) -> str:
        return job_id_of(text(member), stored.state or State.WAITING)

    def job_keys(job_id: str) -> tuple[bytes, ...]:
        return tuple(map(raw_bytes, (queue.job(job_id), queue.results(job_id), queue.dependents(job_id))))

    return QueueStorage(
        (*lists, StoredKey(raw_bytes(queue.intermediate), "list")),
        id_of,
        job_keys,
        job_prefix=raw_bytes(queue.job("")),
        owner_field="origin",
        owner=raw_bytes(queue.name),
    )


def directory_key(prefix: str) -> str:
    """Return the key of the set of all queues that were ever used."""
    return f"{prefix}:queues"


def workers_key(prefix: str) -> str:
    """Return the key of the set of the keys of all workers."""
    return f"{prefix}:workers"


def suspended_key(prefix: str) -> str:
    """Return the key that exists while all workers are suspended."""
    return f"{prefix}:suspended"


@lru_cache(maxsize=20_000)
def queue_keys(key: str, prefixes: tuple[str, ...]) -> QueueKeys | None:
    """Return the queue of a directory entry or a QueueRef.key; None if it has none of `prefixes`."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        start = f"{prefix}:queue:"
        if key.startswith(start):
            return QueueKeys(prefix, key.removeprefix(start))
    return None


def job_id_of(member: str, state: State) -> str:
    """Return the id in a member of a list: running jobs are stored as `<id>:<execution>` since RQ 2, as `<id>` before.

    Ids can contain colons before RQ 3, so only a suffix in the form of an execution (32 hex digits) is removed.
    """
    return _EXECUTION.sub("", member) if state is State.ACTIVE else member


@cache
def load_script(name: str) -> str:
    """Return the source of a script. Scripts build keys from what they read, which a single Redis server allows."""
    text = read_scripts(__package__, name)
    return f"{shared_script('oldest')}\n{text}" if name == "queues" else text


def load_writing_script(name: str) -> str:
    """Return the source of a script that changes jobs, preceded by the functions that all of them share."""
    return read_scripts(__package__, "writing", name)
