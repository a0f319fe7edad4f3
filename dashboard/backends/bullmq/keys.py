"""Names and numbers in BullMQ's keys. Layout: bullmq 4 to 6 `src/classes/queue-keys.ts`, `src/commands/`; bull 4."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from ...model import QueueRef, QueueStorage, State, StoredKey
from ...sources.source import raw_bytes, text
from ..bounded_reads import shared_script
from ..lua_reads import read_scripts
from ..payloads.decoding import printable

DEFAULT_PREFIX = "bull"
# 4.x keeps a wake-up marker, which is not a job, as the last entry of `wait`.
MARKER = b"0:"


class NativeList(NamedTuple):
    """One of the library's lists: its key, whether it is a Redis list or a sorted set, and how it is displayed."""

    native: str  # also the last part of the key
    state: State
    kind: str  # "list" or "zset"
    newest_first: bool  # False: next to run first
    from_tail: bool  # the first row is the last entry


# In the order in which workers take jobs from them; within a state the first is shown first.
LISTS = (
    NativeList("wait", State.WAITING, "list", newest_first=False, from_tail=True),
    NativeList("paused", State.WAITING, "list", newest_first=False, from_tail=True),
    NativeList("prioritized", State.WAITING, "zset", newest_first=False, from_tail=False),
    NativeList("active", State.ACTIVE, "list", newest_first=True, from_tail=False),
    NativeList("delayed", State.SCHEDULED, "zset", newest_first=False, from_tail=False),
    NativeList("waiting-children", State.BLOCKED, "zset", newest_first=True, from_tail=True),
    NativeList("failed", State.DEAD, "zset", newest_first=True, from_tail=True),
    NativeList("completed", State.COMPLETED, "zset", newest_first=True, from_tail=True),
)
BY_NATIVE = {entry.native: entry for entry in LISTS}
BY_STATE = {state: tuple(entry for entry in LISTS if entry.state is state) for state in State}
ORDERS = {
    State.WAITING: "next to run first",
    State.ACTIVE: "newest start first",
    State.SCHEDULED: "due soonest first",
    State.BLOCKED: "newest first",
    State.DEAD: "newest failure first",
    State.COMPLETED: "newest first",
}
# In a cluster, Queuedeck's own sorted set of the deletions in a queue that were undone: a script that restores jobs can
# only reach keys in the hash slot of the queue.
RESTORED = "queuedeck-restored"
# Keys of the queue itself, whose names look like the key of a job.
RESERVED = frozenset(
    {
        *("meta", "id", "pc", "marker", "events", "limiter", "stalled", "stalled-check", "repeat", "meta-paused"),
        *("priority", "metrics:completed", "metrics:failed", RESTORED, *(entry.native for entry in LISTS)),
    }
)
# The larger ones of them, and their types; job keys end in one of JOB_ENDS.
OWN_KEYS = (
    *(("meta", "hash"), ("events", "stream"), ("stalled", "set"), ("repeat", "zset")),
    *((f"metrics:{kind}:data", "list") for kind in ("completed", "failed")),
)
JOB_ENDS = ("", ":logs", ":processed", ":dependencies")
# Bull 3 and 4 have neither; there, prioritized jobs are in `wait`.
NOT_IN_BULL = frozenset({"prioritized", "waiting-children"})


@dataclass(frozen=True, slots=True)
class QueueKey:
    """The parts of `<prefix>:<queue>`."""

    prefix: str
    queue: str

    @property
    def key(self) -> str:
        """The common start of all keys of the queue, without the last colon."""
        return f"{self.prefix}:{self.queue}"


def split_key(key: str, prefixes: Iterable[str] = ()) -> QueueKey | None:
    """Split `<prefix>:<queue>`; None if there is no colon.

    A key under one of `prefixes`, or under the default prefix, is split there: Bull, and BullMQ up to 4, allow colons
    in the name of a queue. Other keys are split at the last colon, because a prefix can contain colons too.
    """
    for prefix in (*prefixes, DEFAULT_PREFIX):
        if key.startswith(f"{prefix}:") and len(key) > len(prefix) + 1:
            return QueueKey(prefix, key[len(prefix) + 1 :])
    prefix, colon, queue = key.rpartition(":")
    return QueueKey(prefix, queue) if colon and prefix and queue else None


def key_of(ref: QueueRef) -> QueueKey | None:
    """Return the prefix and queue of a ref; None for a ref that this library did not create."""
    if ref.name != ref.key and ref.key.endswith(f":{ref.name}"):
        return QueueKey(ref.key[: -len(ref.name) - 1], ref.name)
    return split_key(ref.key)


def queue_key(ref: QueueRef) -> str:
    """Return the key of a ref."""
    return ref.key


def split_job(key: str) -> tuple[QueueKey, str] | None:
    """Return the queue and job id of a job key, as parents and children refer to each other; None for other keys."""
    # The next run of a scheduler is the only job whose id contains colons: `repeat:<scheduler>:<ms>`.
    head, repeat, tail = key.partition(":repeat:")
    if repeat:
        queue = split_key(head)
        return (queue, f"repeat:{tail}") if queue else None
    head, _, job_id = key.rpartition(":")
    queue = split_key(head)
    return (queue, job_id) if queue and job_id else None


def describe_storage(ref: QueueRef) -> QueueStorage:
    """Return the keys of a queue, and how those of its jobs are named."""
    jobs = (StoredKey(raw_bytes(f"{ref.key}:{each.native}"), each.kind, each.state, by_id=True) for each in LISTS)
    others = (StoredKey(raw_bytes(f"{ref.key}:{name}"), kind) for name, kind in OWN_KEYS)

    def job_keys(job_id: str) -> tuple[bytes, ...]:
        return tuple(raw_bytes(f"{ref.key}:{job_id}{end}") for end in JOB_ENDS)

    return QueueStorage(
        (*jobs, *others),
        lambda _stored, member: "" if member == MARKER else text(member),
        job_keys,
        job_prefix=raw_bytes(f"{ref.key}:"),
        not_ids=RESERVED,
    )


def worker_names(key: QueueKey) -> tuple[str, str]:
    """Return the names in CLIENT LIST of the blocking connections of a queue's Node workers and Python workers."""
    encoded = base64.b64encode(key.queue.encode("utf-8", "surrogateescape")).decode("ascii")
    return f"{key.prefix}:{encoded}", f"{key.prefix}:{key.queue}"


_NUMBER = re.compile(rb"-?\d{1,17}(\.\d{1,20})?(e[+-]?\d{1,3})?\Z")


def parse_number(raw: bytes | int | None) -> float | None:
    """Return the number in `raw`; None for None and for anything else."""
    if isinstance(raw, int):
        return float(raw)
    if not isinstance(raw, bytes) or not _NUMBER.match(raw):
        return None
    value = float(raw)
    return value if math.isfinite(value) else None


def parse_integer(raw: bytes | int | None) -> int | None:
    """Return the number in `raw` without its fraction; None as in `parse_number`."""
    value = parse_number(raw)
    return None if value is None else int(value)


def parse_seconds(raw: bytes | int | None) -> float | None:
    """Return the milliseconds that BullMQ writes as seconds since 1970; None if 0 or less, or as in `parse_number`."""
    value = parse_number(raw)
    return None if value is None or value <= 0 else value / 1000


def due_s(score: bytes | None) -> float | None:
    """Return when a delayed job is due, in seconds since 1970: the score is ms * 4096 plus an index within that ms."""
    value = parse_number(score)
    return None if value is None else value / 4096 / 1000


def parse_version(raw: bytes | None) -> str | None:
    """Return the library's version from `meta`, which contains `bullmq:6.7.0`; None if it is missing."""
    if not isinstance(raw, bytes):
        return None
    library, _, number = text(raw).partition(":")
    return (number if library == "bullmq" else f"{library} {number}".strip())[:60] or None


_KNOWN = re.compile(rb"bullmq:([1-6])\.")


def read_only(raw: bytes | None) -> str | None:
    """Return why a queue with the version `raw` in its `meta` is read-only; None if it can be changed.

    Only the key layout of these releases is known; `lua/writing.lua` makes the same check before it writes.
    """
    if not isinstance(raw, bytes) or _KNOWN.match(raw):
        return None
    library, _, number = printable(raw, 60).partition(":")
    shown = f"{library} {number}".strip()
    return f"This queue belongs to {shown or 'an unknown library'}; Queuedeck reads it but does not change it."


def load_writing_script(name: str) -> str:
    """Return the text of a script in `lua/` that changes jobs, preceded by the functions that all of them share."""
    return read_scripts(__package__, "runs", "writing", name)


_PARTS = {"schedules": ("runs",), "flow": ("classes",)}


@cache
def load_script(name: str) -> str:
    """Return the text of a reading script in `lua/`, preceded by the functions that all of them share."""
    # The text is sent with every call: only scripts that need the functions for large lists, or for runs, get them.
    text = read_scripts(__package__, "common", *_PARTS.get(name, ()), name)
    return f"{shared_script()}\n{text}" if name == "job" else text
