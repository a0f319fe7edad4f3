"""Names of Celery's keys on Redis. Layout: kombu `transport/redis.py` 5.3 to 5.7, celery `backends/redis.py`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

from dashboard.model import QueueRef, State

SHARED = "*"
SEPARATOR = b"\x06\x16"
BINDING = "_kombu.binding."
UNACKED, UNACKED_INDEX = "unacked", "unacked_index"
RECORD = "celery-task-meta-"
# Messages of a priority above 0 stand in lists of their own; whatever the app's steps are, they lie among these.
STEPS = range(1, 10)
NATIVE = {
    State.WAITING: "queued",
    State.ACTIVE: "reserved",
    State.SCHEDULED: "eta",
    State.RETRYING: "retry",
    State.DEAD: "FAILURE",
    State.COMPLETED: "SUCCESS",
    State.CANCELED: "REVOKED",
}
ORDERS = {
    State.WAITING: "next to run first",
    State.ACTIVE: "newest taken first",
    State.SCHEDULED: "newest taken first",
    State.RETRYING: "newest taken first",
    State.DEAD: "newest failure first",
    State.COMPLETED: "newest first",
    State.CANCELED: "newest first",
}
TAKEN = (State.ACTIVE, State.SCHEDULED, State.RETRYING)
ENDED = (State.DEAD, State.COMPLETED, State.CANCELED)
# Between prefix and queue in QueueRef.key: a prefix may end in anything.
_DIVIDER = "\x1f"


class Place(NamedTuple):
    """Where a ref points: the broker's key prefix, and the queue; None for what all queues share."""

    prefix: str
    queue: str | None

    @property
    def key(self) -> str:
        """What QueueRef.key holds."""
        return f"{self.prefix}{_DIVIDER}{SHARED if self.queue is None else self.queue}"

    def lists(self) -> list[bytes]:
        """The keys of the queue's messages, in the order in which a worker empties them."""
        base = f"{self.prefix}{self.queue}".encode("utf-8", "surrogateescape")
        return [base, *(base + SEPARATOR + str(step).encode() for step in STEPS)]


def place(ref: QueueRef) -> Place:
    """The prefix and queue of a ref."""
    prefix, _, queue = ref.key.partition(_DIVIDER)
    return Place(prefix, None if ref.shared else queue)


@cache
def script(name: str) -> str:
    """The text of one of the scripts in `lua/`."""
    return files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
