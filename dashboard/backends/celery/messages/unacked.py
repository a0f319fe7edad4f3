"""Messages that workers hold unacknowledged, and which of them are running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from ....model import Job, QueueRef, State
from ....sources.source import Command, Reply, text
from ...bounded_reads import short_fields
from ...payloads.decoding import DECODE_LIMIT_BYTES, count_or_none
from .. import keys
from ..job_decoding import (
    BoundedMessage,
    cut_of,
    decode_unacked,
    headers_of,
    job_id,
    message_row,
    nameless_id,
    state_of,
)
from ..job_servers import JobServers
from ..results.display_reads import read_statuses
from ..results.metadata import decode_metadata
from ..results.record import ResultsLocation
from ..routes import QueueRoutes
from ..stored_heartbeats import beats_of
from ..workers import is_alive

# How many unacknowledged messages are inspected for a page of one state.
LOOK_INTO = 500
# How many bytes of them; the rest is not inspected.
UNACKED_BYTES = 8 * 1024 * 1024


class TaskFacts(NamedTuple):
    """What our own keys store about tasks: where their results are, which tasks are known to have started, and whether
    no others are running."""

    results_location: ResultsLocation
    started: frozenset[str]
    whole: bool


class UnackedMessage(NamedTuple):
    """A message that a worker holds unacknowledged."""

    cut: BoundedMessage
    message: dict[str, Any] | None
    queue: str | None
    task: str
    state: State
    maybe: bool = False  # it may be running; there is no record of it

    def to_row(self, ref: QueueRef, queue: str) -> Job:
        """Return it as a row of a list."""
        native = keys.MAYBE_RUNNING if self.maybe else keys.native_of(_TOGETHER, self.state)
        return message_row(ref, self.queue or queue, self.state, self.cut, self.message, native=native)


_TOGETHER = keys.QueueLocation("", None)


class UnackedReader:
    """Reads the messages that workers of one source hold."""

    def __init__(self, servers: JobServers) -> None:
        self._servers = servers

    def read_newest(self, place: keys.QueueLocation) -> tuple[list[BoundedMessage], Reply, TaskFacts]:
        """Return (the newest unacknowledged messages, at most LOOK_INTO and UNACKED_BYTES of them; how many there are,
        or why they cannot be read; what our own keys store about them).

        Cost: 1 round trip, 3 without scripts; 1 more if our own keys are on another server.
        """
        entries, index = self._servers.unacked_keys.keys(place.prefix)
        call = (entries, index, 0, LOOK_INTO, UNACKED_BYTES, DECODE_LIMIT_BYTES)
        own: list[Command] = [
            self._servers.facts_command(place),
            ("SMEMBERS", keys.started_key(self._servers.name)),
            ("HGETALL", keys.workers_key(self._servers.name)),
        ]
        mailboxes: Command = ("SCARD", f"{place.prefix}{keys.MAILBOX}")
        together = self._servers.own_with_broker
        answered = self._servers.scripts.run(
            keys.load_script("unacked"), [call], also=[mailboxes, *(own if together else ())]
        )
        if answered is not None and together:
            own_replies = answered[1][1:]
        else:
            own_replies = self._servers.own.run_batch(own) if self._servers.own is not None else [None] * len(own)
        if answered is not None:
            reply: Any = answered[0][0]
            total, values = (reply[0], reply[1]) if isinstance(reply, list) else (reply, [])
            boxes = answered[1][0]
        else:
            total, values, boxes = self._read_without_lua(entries, index, mailboxes)
        known = self._build_facts(place.prefix, own_replies, boxes)
        found = []
        for tag, raw, length in zip(*[iter(values)] * 3, strict=True):
            if isinstance(raw, bytes):
                found.append(cut_of(raw))
            elif isinstance(length, int) and length > DECODE_LIMIT_BYTES:
                found.append(BoundedMessage(b"", length, f"{nameless_id(tag)}-{length}"))
        return found, total, known

    def _read_without_lua(self, entries: bytes, index: bytes, mailboxes: Command) -> tuple[Reply, list[Any], Reply]:
        """Return (how many messages there are; tag, message and length of each of the newest; reply to `mailboxes`).

        Cost: 3 round trips.
        """
        broker = self._servers.broker
        tags, total, boxes = broker.run_batch([("ZREVRANGE", index, 0, LOOK_INTO - 1), ("HLEN", entries), mailboxes])
        names = tags if isinstance(tags, list) else []
        total = tags if isinstance(tags, ResponseError) else total
        lengths = broker.run_batch([("HSTRLEN", entries, tag) for tag in names])
        raws = short_fields(broker, [(entries, tag) for tag in names], DECODE_LIMIT_BYTES, UNACKED_BYTES)
        values = [part for each in zip(names, raws, lengths, strict=True) if each[2] for part in each]
        return total, values, boxes

    def _build_facts(self, prefix: str, own_replies: Sequence[Reply], boxes: Reply) -> TaskFacts:
        metadata, running, heartbeats = own_replies
        started = frozenset(text(each) for each in running) if isinstance(running, list | set) else frozenset()
        results_location = ResultsLocation(prefix, decode_metadata(metadata).prefixes[::-1])
        beats = [beat for beat in beats_of(heartbeats).values() if beat.get("prefix", "") == prefix]
        return TaskFacts(
            results_location, started, _tells_all(beats, boxes, len(started), self._servers.broker.now_s())
        )

    def held_messages(self, prefix: str, cuts: Sequence[BoundedMessage], known: TaskFacts) -> list[UnackedMessage]:
        """Return messages held by workers, each in its known state. Cost: 1 round trip, and that of QueueRoutes."""
        found = []
        entries = [decode_unacked(cut.raw) if cut.is_whole else (None, None) for cut in cuts]
        routes = QueueRoutes(self._servers.broker, prefix)
        routes.look_up(route for _, route in entries)
        for cut, (message, route) in zip(cuts, entries, strict=True):
            queue = routes.queue_of(route) or (route.routing_key if route else None)
            state = state_of(headers_of(message))
            found.append(UnackedMessage(cut, message, queue, job_id(cut.mark, headers_of(message)), state))
        names = [known.results_location.record_keys(held.task)[0] for held in found]
        for n, status in enumerate(read_statuses(self._servers.results, names)):
            held = found[n]
            if status == "REVOKED":
                found[n] = held._replace(state=State.CANCELED)
            elif status == "STARTED" or held.task in known.started:
                found[n] = held._replace(state=State.ACTIVE)
            elif held.state is State.WAITING and held.message is not None:
                found[n] = held._replace(maybe=not known.whole)
        return found


def _tells_all(beats: Sequence[Mapping[str, object]], boxes: Reply, started: int, now: float) -> bool:
    """Whether the tasks known to have started are all that run: every worker that may live sends heartbeats, and they
    report as many active tasks, or none.

    `beats` = heartbeats of the known workers, `boxes` = number of workers with a mailbox, which a killed one leaves.
    Compare `stats.divide_unacked`.
    """
    alive = [beat for beat in beats if is_alive(beat, now)]
    counts = [count_or_none(beat.get("active")) for beat in alive]
    if not beats or None in counts or not isinstance(boxes, int) or boxes > len(alive):
        return False
    return sum(count or 0 for count in counts) in (0, started)
