"""Names and numbers of BullMQ's keys. Layout: bullmq 4 to 6 `src/classes/queue-keys.ts`, `src/commands/`; bull 4."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from ...model import QueueRef, State
from ..bounded_reads import shared_script
from ..payloads.decoding import printable, text

DEFAULT_PREFIX = "bull"
# 4.x keeps a wake-up marker, which is no job, as the last entry of `wait`.
MARKER = b"0:"


class NativeList(NamedTuple):
    """One of the library's lists: its key, whether a Redis list or sorted set, and how we show it."""

    native: str  # also the last part of the key
    state: State
    kind: str  # "list" or "zset"
    newest_first: bool  # False: next to run first
    from_tail: bool  # the first row is the last entry


# In the order in which workers empty them; within a state the first is shown first.
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
# Keys of the queue itself, whose names have the form of a job's key.
RESERVED = frozenset(
    {
        *("meta", "id", "pc", "marker", "events", "limiter", "stalled", "stalled-check", "repeat", "meta-paused"),
        *("priority", "metrics:completed", "metrics:failed", *(entry.native for entry in LISTS)),
    }
)
# Bull 3 and 4 have neither; there, prioritized jobs stand in `wait`.
NOT_IN_BULL = frozenset({"prioritized", "waiting-children"})


@dataclass(frozen=True, slots=True)
class QueueKey:
    """`<prefix>:<queue>` taken apart."""

    prefix: str
    queue: str

    @property
    def key(self) -> str:
        """The part that all keys of the queue begin with, without the last colon."""
        return f"{self.prefix}:{self.queue}"


def split_key(key: str, prefixes: Iterable[str] = ()) -> QueueKey | None:
    """The prefix and queue of `<prefix>:<queue>`; None when there is no colon.

    A key under one of `prefixes`, or under the default one, is divided there: Bull and BullMQ up to 4 allow colons in
    a queue's name. Elsewhere the last colon divides, since a prefix may hold some too.
    """
    for prefix in (*prefixes, DEFAULT_PREFIX):
        if key.startswith(f"{prefix}:") and len(key) > len(prefix) + 1:
            return QueueKey(prefix, key[len(prefix) + 1 :])
    prefix, colon, queue = key.rpartition(":")
    return QueueKey(prefix, queue) if colon and prefix and queue else None


def key_of(ref: QueueRef) -> QueueKey | None:
    """The prefix and queue of a ref; None for one that is not of this library's making."""
    if ref.name != ref.key and ref.key.endswith(f":{ref.name}"):
        return QueueKey(ref.key[: -len(ref.name) - 1], ref.name)
    return split_key(ref.key)


def split_job(key: str) -> tuple[QueueKey, str] | None:
    """The queue and job id of a job's key as parents and children name each other; None when it is no such key."""
    # The next run of a scheduler is the one job whose id holds colons: `repeat:<scheduler>:<ms>`.
    head, repeat, tail = key.partition(":repeat:")
    if repeat:
        queue = split_key(head)
        return (queue, f"repeat:{tail}") if queue else None
    head, _, job_id = key.rpartition(":")
    queue = split_key(head)
    return (queue, job_id) if queue and job_id else None


def worker_names(key: QueueKey) -> tuple[str, str]:
    """How the blocking connections of Node and of Python workers of a queue are called in CLIENT LIST."""
    encoded = base64.b64encode(key.queue.encode("utf-8", "surrogateescape")).decode("ascii")
    return f"{key.prefix}:{encoded}", f"{key.prefix}:{key.queue}"


_NUMBER = re.compile(rb"-?\d{1,17}(\.\d{1,20})?(e[+-]?\d{1,3})?\Z")


def parse_number(raw: bytes | int | None) -> float | None:
    """The number in `raw`; None for None and for anything else."""
    if isinstance(raw, int):
        return float(raw)
    if not isinstance(raw, bytes) or not _NUMBER.match(raw):
        return None
    value = float(raw)
    return value if math.isfinite(value) else None


def parse_integer(raw: bytes | int | None) -> int | None:
    """The number in `raw` without its fraction; None as `parse_number`."""
    value = parse_number(raw)
    return None if value is None else int(value)


def parse_seconds(raw: bytes | int | None) -> float | None:
    """Seconds since 1970 from the milliseconds that BullMQ writes; None as `parse_number`."""
    value = parse_number(raw)
    return None if value is None or value <= 0 else value / 1000


def due_s(score: bytes | None) -> float | None:
    """When a delayed job is due, in seconds since 1970: the score is ms * 4096 and a place within that ms."""
    value = parse_number(score)
    return None if value is None else value / 4096 / 1000


def parse_version(raw: bytes | None) -> str | None:
    """The library's version from `meta`, which holds `bullmq:6.7.0`; None when nobody wrote it."""
    if not isinstance(raw, bytes):
        return None
    library, _, number = text(raw).partition(":")
    return (number if library == "bullmq" else f"{library} {number}".strip())[:60] or None


_KNOWN = re.compile(rb"bullmq:([1-6])\.")


def read_only(raw: bytes | None) -> str | None:
    """Why nothing is written to a queue whose `meta` holds `raw` as its version; None where it may be.

    What the keys of a release mean is known of these alone; `lua/acts.lua` asks the same as it writes.
    """
    if not isinstance(raw, bytes) or _KNOWN.match(raw):
        return None
    library, _, number = printable(raw, 60).partition(":")
    shown = f"{library} {number}".strip()
    return f"This queue belongs to {shown or 'an unknown library'}; Queuedeck reads it but does not change it."


@cache
def load_writing_script(name: str) -> str:
    """The text of a script in `lua/` that changes something, with the functions that all of them share before it."""
    folder = files(__package__).joinpath("lua")
    return "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("runs", "acts", name))


@cache
def load_script(name: str) -> str:
    """The text of one of the scripts in `lua/`, with the functions that all of them share before it."""
    folder = files(__package__).joinpath("lua")
    texts = [folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("common", name)]
    # The text is sent with each call: only what needs the functions for lists of any size, or for runs, has them.
    if name == "schedules":
        texts.insert(1, folder.joinpath("runs.lua").read_text("utf-8"))
    return "\n".join((shared_script(), *texts) if name == "job" else texts)
