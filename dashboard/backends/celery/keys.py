"""Names of Celery's keys in Redis. Layout: kombu `transport/redis.py` 5.3 to 5.7, celery `backends/redis.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from ...model import QueueRef, QueueStorage, State, StoredKey
from ...model.storage import no_id, no_job_keys
from ...sources.source import raw_bytes, text
from ..bounded_reads import shared_script
from ..lua_reads import read_scripts
from ..shared_entries import SHARED

SEPARATOR = "\x06\x16"  # of binding members and priority lists, unless the app configures another
BINDING = "_kombu.binding."
MAILBOX = f"{BINDING}celery.pidbox"
RECORD = "celery-task-meta-"
# Messages with a priority above 0 are in separate lists; the app's steps, whatever they are, are among these.
STEPS = range(1, 10)
NATIVE = {
    State.WAITING: "queued",
    State.ACTIVE: "running",
    State.SCHEDULED: "eta",
    State.RETRYING: "retry",
    State.DEAD: "FAILURE",
    State.COMPLETED: "SUCCESS",
    State.CANCELED: "REVOKED",
}
# A message that a worker has reserved but not started; it is waiting too.
RESERVED = "reserved"
# Used if it is unknown which unacknowledged messages are running: with `acks_late`, some of them may be.
MAYBE_RUNNING = "reserved or running"
# A message that is queued and will be discarded when a worker picks it up.
QUEUED_REVOKED = "queued, revoked"
ORDERS = {
    State.WAITING: "next to run first",
    State.ACTIVE: "most recently picked up first",
    State.SCHEDULED: "most recently picked up first",
    State.RETRYING: "most recently picked up first",
    State.DEAD: "newest failure first",
    State.COMPLETED: "newest first",
    State.CANCELED: "newest first",
}
TAKEN = (State.WAITING, State.ACTIVE, State.SCHEDULED, State.RETRYING)
ENDED = (State.DEAD, State.COMPLETED, State.CANCELED)
# The id of a task within its message: in its headers, or in its properties if those are shortened.
ID_PATTERN = '"id": ?"([^"]+)"'
# Longer than the trash retains deleted jobs.
NOTES_KEPT_S = 25 * 3600
# Between prefix and queue in QueueRef.key: a prefix can end in any character.
_DIVIDER = "\x1f"


class QueueLocation(NamedTuple):
    """What a ref points to: the broker's key prefix, the queue (None for the shared entry), and the separator."""

    prefix: str
    queue: str | None
    separator: str = SEPARATOR

    @property
    def key(self) -> str:
        """The value of QueueRef.key."""
        end = "" if self.separator == SEPARATOR else f"{_DIVIDER}{self.separator}"
        return f"{self.prefix}{_DIVIDER}{SHARED if self.queue is None else self.queue}{end}"

    def list_keys(self) -> list[bytes]:
        """Return the keys of the queue's message lists, in the order in which a worker empties them."""
        base = raw_bytes(f"{self.prefix}{self.queue}")
        separator = self.separator.encode("utf-8", "surrogateescape")
        return [base, *(base + separator + str(step).encode() for step in STEPS)]


class UnackedKeys(NamedTuple):
    """An app's names for the hash of unacknowledged messages, and for the sorted set of when they were picked up."""

    entries: str = "unacked"
    times: str = "unacked_index"

    def keys(self, prefix: str) -> tuple[bytes, bytes]:
        """Return both as keys."""
        entries, times = (f"{prefix}{name}".encode("utf-8", "surrogateescape") for name in self)
        return entries, times


def location_of(ref: QueueRef) -> QueueLocation:
    """Return the location that a ref points to."""
    found = _parse_key(ref.key)
    return found._replace(queue=None) if ref.shared else found


def describe_storage(place: QueueLocation, unacked: UnackedKeys) -> QueueStorage:
    """Return the keys of a queue; for the shared entry those of all queues, and how results are named."""
    if place.queue is not None:
        found = tuple(StoredKey(key, "list", State.WAITING) for key in place.list_keys())
        return QueueStorage(found, no_id, no_job_keys, ID_PATTERN)
    entries, times = unacked.keys(place.prefix)
    keys = (StoredKey(entries, "hash", State.ACTIVE), StoredKey(times, "zset"))
    prefixes = (place.prefix, f"{place.prefix}_", "") if place.prefix else ("",)
    results = tuple(raw_bytes(f"{each}{RECORD}") for each in prefixes)
    return QueueStorage(keys, no_id, no_job_keys, ID_PATTERN, results)


def native_of(place: QueueLocation, state: State) -> str:
    """Return Celery's name for a state, in a queue or in the shared entry for all queues."""
    return RESERVED if place.queue is None and state is State.WAITING else NATIVE[state]


def place_of(key: bytes) -> QueueLocation:
    """Return the location of an entry of `queues_key`, which is the key of a QueueLocation."""
    return place_of_key(text(key))


def place_of_key(key: str) -> QueueLocation:
    """Return the location with this `key`."""
    return _parse_key(key)


@lru_cache(maxsize=20_000)
def _parse_key(key: str) -> QueueLocation:
    prefix, _, rest = key.partition(_DIVIDER)
    queue, _, separator = rest.partition(_DIVIDER)
    return QueueLocation(prefix, queue, separator or SEPARATOR)


def parse_binding(exchange: str, member: str) -> tuple[str, str] | None:
    """Return (queue, separator) of a member of an exchange's bindings, `routing key, pattern, queue`; None if invalid.

    A custom separator is recognized from a queue that Celery declared: routing key, exchange and queue are one name.
    """
    if SEPARATOR in member:
        return member.split(SEPARATOR)[-1], SEPARATOR
    twice = member.removeprefix(exchange).removesuffix(exchange)
    separator = twice[: len(twice) // 2]
    if separator and member == exchange + separator * 2 + exchange:
        return exchange, separator
    return None


def record_key(member: bytes) -> bytes:
    """Return the key of the record that a member of the index names."""
    prefix, divided, name = member.rpartition(_DIVIDER.encode())
    return prefix + RECORD.encode() + name if divided else RECORD.encode() + member


def member_of(key: bytes) -> bytes:
    """Return the index member of a record's key (or channel): the id, after the results' prefix if there is one."""
    prefix, _, name = key.rpartition(RECORD.encode())
    return prefix + _DIVIDER.encode() + name if prefix else name


def member_id(member: bytes) -> bytes:
    """Return the task id in a member of the index."""
    return member.rpartition(_DIVIDER.encode())[2]


def record_keys(prefix: str, task_id: str, seen: Sequence[str] = ()) -> list[bytes]:
    """Return the keys that the record of a task may have, whose broker has `prefix`, most likely first.

    `seen` = the prefixes under which its results were seen. If none was seen yet, results may have the broker's prefix
    or none; Celery adds a "_" to the prefix of results unless it ends in a punctuation mark.
    """
    name = raw_bytes(task_id)
    prefixes = dict.fromkeys((*seen, prefix, f"{prefix}_", "") if prefix else (*seen, ""))
    return [each.encode("utf-8", "surrogateescape") + RECORD.encode() + name for each in prefixes]


def broker_prefix_of(result_prefix: str, prefixes: Sequence[str]) -> str:
    """Return which of the brokers' `prefixes` results with `result_prefix` belong to: the same, else the first."""
    known = sorted(prefixes)
    for prefix in (result_prefix, result_prefix.removesuffix("_")):
        if prefix in known:
            return prefix
    return known[0] if known else ""


def index_key(source: str, state: State, prefix: str = "") -> str:
    """Sorted set of the newest records of one status; `prefix` = the broker's key prefix."""
    return f"{{queuedeck}}:celery:{source}:{state.value}{':' if prefix else ''}{prefix}"


def filled_key(source: str) -> str:
    """Exists while the index is maintained and includes the records that existed before."""
    return f"{{queuedeck}}:celery:{source}:filled"


def started_key(source: str) -> str:
    """Set: ids of running tasks, as far as workers or records report them."""
    return f"{{queuedeck}}:celery:{source}:started"


def workers_key(source: str) -> str:
    """Hash: worker -> its last heartbeat as JSON."""
    return f"{{queuedeck}}:celery:{source}:workers"


def queues_key(source: str) -> str:
    """Our own set of the queues found, as keys of QueueLocations; see `ResultIndex`."""
    return f"{{queuedeck}}:celery:{source}:queues"


def redbeat_key(source: str) -> str:
    """Our own set of the key prefixes under which schedules of RedBeat were found."""
    return f"{{queuedeck}}:celery:{source}:redbeat"


def results_key(source: str) -> str:
    """Our own hash: a broker's key prefix -> what is known of its results, as JSON; see `results/metadata.py`."""
    return f"{{queuedeck}}:celery:{source}:results"


def paused_key(source: str) -> str:
    """Our own hash of the queues paused in Queuedeck: location key -> a PausedQueue, as JSON."""
    return f"{{queuedeck}}:celery:{source}:paused"


def notes_key(source: str) -> str:
    """Our own sorted set of deleted messages that can be restored, by time; on the broker, for NOTES_KEPT_S."""
    return f"{{queuedeck}}:celery:{source}:deleted"


def mark_key(source: str, what: str, task_id: str, version: str | None) -> bytes:
    """Our own marker that a job was already sent; on the broker, with a time to live."""
    name = hashlib.sha256(f"{what}\x1f{task_id}\x1f{version}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return f"{{queuedeck}}:celery:{source}:mark:{name}".encode()


# The scripts that read messages, and the others that read lists or hashes of any size.
READING = ("page", "find", "seek", "unacked")
SHARING = ("stats",)


@cache
def load_script(name: str) -> str:
    """Return the text of one of the scripts in `lua/`, preceded by the code it shares with others."""
    before = {"drop_messages": ("lists",), "replace": ("lists",), **dict.fromkeys(READING, ("messages",))}.get(name, ())
    script = read_scripts(__package__, *before, name)
    return f"{shared_script()}\n{script}" if before or name in SHARING else script
