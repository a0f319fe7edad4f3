"""Which tasks ended: Celery keeps a record of each, but no list of them. So Queuedeck keeps a bounded one of its own.

It lies under `{queuedeck}:celery:<source>:`, one sorted set per status and prefix with the newest records, scored by
when they ended, and a hash of workers. It is filled by a slow look through the records when a process begins to keep
it, and again after the feed was not heard for a while; meanwhile the live feed keeps it.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from redis.exceptions import ResponseError

from dashboard.backends.base import FLOW_WINDOW_S, Budget
from dashboard.backends.celery.keys import ENDED, NATIVE, RECORD, home, member_of, queues_key, record_key
from dashboard.backends.celery.listen import (
    MAX_EVENTS,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    RECORDS,
    Listener,
    worker_channels,
)
from dashboard.backends.celery.message import when
from dashboard.backends.payload import loads_dict, text
from dashboard.backends.scan import scan_step
from dashboard.clock import monotonic_s
from dashboard.errors import QueuedeckError
from dashboard.model import State
from dashboard.redact import masked_logger
from dashboard.sources import Command, Reply, Source

# Members of at most 200 bytes, so at most about 2 MB a source and prefix.
KEPT = {State.DEAD: 5000, State.COMPLETED: 2000, State.CANCELED: 1000}
ID_LIMIT = 200
# What a look through the records may cost per sample.
FILL_COMMANDS, FILL_SECONDS = 10, 0.05
RECORD_LIMIT = 65_536
RECORDS_AT_ONCE = 200
# Where the feed cannot be heard at all, the records are looked through every so often.
LOOK_AGAIN_S = 60.0
CHECKED = 100
# A worker beats every 2 s.
SUSPECT_AFTER_S, DEAD_AFTER_S = 10.0, 60.0
# A worker that is killed leaves its mailbox for ever: that it was heard, and fell silent, is remembered for so long.
WORKERS_TTL_S = 7 * 86_400
MAX_SILENT_WORKERS = 200
QUEUES_TTL_S, MAX_QUEUES = 3600, 5000
# While nobody keeps the index, what it holds is not to be taken for all there is.
FILLED_TTL_S = 60
MAX_RUNTIMES = 200
MAX_RECENT = 5000
# Commands that wait for the server of our own keys; of more, the records are looked through again.
MAX_UNWRITTEN = 2000
# A worker beats every 2 s: who has listened so long has heard of each that does.
HEARD_ALL_AFTER_S = 10.0
log = masked_logger(__name__)
_STATES = {NATIVE[state]: state for state in ENDED}


def index_key(source: str, state: State, prefix: str = "") -> str:
    """The sorted set of the newest records of one status; `prefix` = of the broker's keys."""
    return f"{{queuedeck}}:celery:{source}:{state.value}{':' if prefix else ''}{prefix}"


def filled_key(source: str) -> str:
    """Exists while the index is kept and holds what was there before."""
    return f"{{queuedeck}}:celery:{source}:filled"


def workers_key(source: str) -> str:
    """Hash: worker -> its last heartbeat as JSON."""
    return f"{{queuedeck}}:celery:{source}:workers"


@dataclass
class Ended:
    """What the feed told since the last look, by (prefix, queue); queue "" where the record does not name it."""

    completed: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead: Counter[tuple[str, str]] = field(default_factory=Counter)
    runtimes: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    whole: bool = True


class Keeper:
    """Keeps the index of one source; used by the process that samples, by one thread."""

    def __init__(self, broker: Source, results: Source, own: Source, name: str) -> None:
        self._broker = broker
        self._results = results
        self._own = own
        self._name = name
        workers = worker_channels(broker.database)
        self.listener = Listener(results, RECORDS if broker is not results else (*RECORDS, *workers))
        self.workers = self.listener if broker is results else Listener(broker, workers)
        self._since = monotonic_s()
        self._cursor: int | None = 0
        self._missed = False  # since the feed was last whole
        self._looked_at = 0.0  # monotonic; when the last look came to its end
        self._gone: list[Command] = []
        self._published: list[tuple[bytes, bytes]] = []  # taken out of the feed, and not yet in `ended`
        self._runtimes: dict[str, float] = {}  # likewise
        self._unwritten: list[Command] = []  # of the index
        self._turn = 0
        self._recent: OrderedDict[str, tuple[str, str]] = OrderedDict()  # task id -> where it ended, newest last
        self._unassigned: dict[str, float] = {}  # run times by task, of the last look, whose record has not come yet
        self.nameless_at = -FLOW_WINDOW_S  # monotonic; when a record last came that names no queue
        self.prefixes: Sequence[str] = ()  # of the brokers' keys
        # Keys of the places that the last search found: whoever sends a job must know them.
        self.queues: frozenset[str] = frozenset()
        self._queues_told: tuple[frozenset[str], float] = (frozenset(), 0.0)  # and when, monotonic
        self.ended = Ended()

    @property
    def heard_all_workers(self) -> bool:
        """Whether a worker that beats would be known by now."""
        return self.workers.connected and monotonic_s() - self._since > HEARD_ALL_AFTER_S

    def close(self) -> None:
        """End the feeds."""
        for listener in {id(each): each for each in (self.listener, self.workers)}.values():
            listener.close()

    def tend(self) -> None:
        """Take in what the feed told, go on looking through the records, forget what has expired.

        Cost: 2 round trips, 4 with results or own keys on another server; the look through records comes on top.
        """
        # Run times first. A worker stores the record of a task before it sends the event with its run time, so the
        # records that are drained afterwards hold the record of each event that is already here. The other way round,
        # a record and its event that arrive in between would be parted, and the run time would find no record.
        # What was taken out of the feed stays here until Redis has answered: a round trip that fails loses none of it.
        self._runtimes.update(self.workers.runtimes())
        published, whole = self.listener.drain()
        self._published += published
        if len(self._published) > MAX_WAITING or sum(len(raw) for _, raw in self._published) > MAX_WAITING_BYTES:
            self._published, whole = [], False
        if len(self._runtimes) > 2 * MAX_EVENTS:
            self._runtimes = {}
        self._look_again(whole)
        self.ended.whole = self.ended.whole and whole
        windows = self._windows()
        there, members = self._asked([("EXISTS", channel) for channel, _ in self._published], windows)
        # Channels are the same for all databases of a server, keys are not.
        ours = [entry for entry, exists in zip(self._published, there, strict=True) if exists == 1]
        self._published = []
        self._unwritten += self._added(ours, count=True)
        runtimes, self._runtimes = self._runtimes, {}
        self._assign_runtimes(runtimes)
        if len(self._unwritten) > MAX_UNWRITTEN:
            self._unwritten, self._cursor = [], 0
        if self._cursor is not None:
            self._unwritten += self._fill()
        commands = [*self._gone, *self._unwritten, *self._heartbeats(), *self._places()]
        if self._cursor is None and not self._missed:
            commands.append(("SET", filled_key(self._name), 1, "EX", FILLED_TTL_S))
        else:
            commands.append(("DEL", filled_key(self._name)))
        oldest = [
            (command[1], member)
            for command, found in zip(windows, members, strict=True)
            for member in (found if isinstance(found, list) else ())
        ]
        try:
            exist, written = self._asked([("EXISTS", record_key(member)) for _, member in oldest], commands)
        except QueuedeckError:
            self._queues_told = (frozenset(), 0.0)
            raise
        self._unwritten = []
        self._replace_wrong(commands, written)
        self._gone = [("ZREM", key, member) for (key, member), exists in zip(oldest, exist, strict=True) if exists == 0]

    def _replace_wrong(self, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
        """Remove own keys of another type, to be filled anew: they came from another program, or a copied database."""
        wrong = {
            str(command[1])
            for command, reply in zip(commands, replies, strict=True)
            if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")
        }
        if wrong:
            for key in sorted(wrong):
                log.warning("own key %s had another type: removed, and filled anew", key)
            self._own.batch([("DEL", *sorted(wrong))])
            self._cursor = 0
            self._queues_told = (frozenset(), 0.0)

    def _look_again(self, whole: bool) -> None:
        """What was missed is found by another look, once the feed is whole again; while it stays away, now and then."""
        if not whole:
            self._missed = True
            if self._cursor is None and monotonic_s() - self._looked_at > LOOK_AGAIN_S:
                self._cursor = 0
        elif self._missed:
            self._missed, self._cursor = False, 0

    def _asked(self, results: Sequence[Command], own: Sequence[Command]) -> tuple[list[Reply], list[Reply]]:
        """The replies of the server of results and of that of the own keys: one round trip where they are one."""
        if self._results is self._own:
            replies = self._own.batch([*results, *own]) if results or own else []
            return replies[: len(results)], replies[len(results) :]
        return self._results.batch(results) if results else [], self._own.batch(own) if own else []

    def _windows(self) -> list[Command]:
        """Of each set the oldest entries, which expire first, and some others in turn, which may have been deleted."""
        self._turn += 1
        commands: list[Command] = []
        for prefix in self.prefixes:
            for state in ENDED:
                key = index_key(self._name, state, prefix)
                start = self._turn % (KEPT[state] // CHECKED) * CHECKED if KEPT[state] > CHECKED else 0
                commands.append(("ZRANGE", key, 0, CHECKED - 1))
                if start:
                    commands.append(("ZRANGE", key, start, start + CHECKED - 1))
        return commands

    def _added(self, records: Iterable[tuple[bytes, bytes]], *, count: bool) -> Iterable[Command]:
        touched: dict[tuple[str, State | None], dict[bytes, float]] = {}
        for name, raw in records:
            member = member_of(name)
            record = loads_dict(raw)
            status = record.get("status")
            if not isinstance(status, str) or len(member) > ID_LIMIT:
                continue
            state = _STATES.get(status)
            prefix = home(text(name.rpartition(RECORD.encode())[0]), self.prefixes)
            done = when(record.get("date_done"))
            # The newest word counts, and a task that is run again under its id leaves the list in which it stood.
            for other in (*ENDED, None):
                touched.get((prefix, other), {}).pop(member, None)
            touched.setdefault((prefix, state), {})[member] = done.timestamp() if done else self._results.now_s()
            if count and state is not None:
                self._count((prefix, _queue(record)), text(name.rpartition(RECORD.encode())[2]), state)
        for (prefix, state), scores in touched.items():
            if not scores:
                continue
            if state is not None:
                key = index_key(self._name, state, prefix)
                yield ("ZADD", key, *(part for name, score in scores.items() for part in (repr(score), name)))
                yield ("ZREMRANGEBYRANK", key, 0, -KEPT[state] - 1)
            for other in ENDED:
                if other is not state:
                    yield ("ZREM", index_key(self._name, other, prefix), *scores)

    def _count(self, where: tuple[str, str], task: str, state: State) -> None:
        tally = self.ended.dead if state is State.DEAD else self.ended.completed
        tally[where] += 1
        if where[1]:
            self._recent[task] = where
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        else:
            self.nameless_at = monotonic_s()

    def _assign_runtimes(self, runtimes: Mapping[str, float]) -> None:
        """Add run times by task to the queue that the record of the task names.

        Where results are on another server than the broker, an event may overtake its record: it waits for one look.
        """
        unassigned: dict[str, float] = {}
        for task, seconds in {**self._unassigned, **runtimes}.items():
            where = self._recent.pop(task, None)
            if where is None:
                if task in runtimes:
                    unassigned[task] = seconds
                continue
            known = self.ended.runtimes.setdefault(where, [])
            if len(known) < MAX_RUNTIMES:
                known.append(seconds)
        self._unassigned = unassigned if self.workers is not self.listener else {}

    def _fill(self) -> Iterable[Command]:
        """One step of a look through the records."""
        assert self._cursor is not None
        keys, cursor = scan_step(
            self._results,
            self._cursor,
            Budget(FILL_COMMANDS, FILL_SECONDS),
            match=f"*{RECORD}*",
            key_type="string",
        )
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            some = keys[start : start + RECORDS_AT_ONCE]
            records = self._results.batch([("GETRANGE", key, 0, RECORD_LIMIT - 1) for key in some])
            found = [(key, raw) for key, raw in zip(some, records, strict=True) if isinstance(raw, bytes)]
            yield from self._added(found, count=False)
        self._cursor = cursor or None  # only now: what could not be read is looked for again
        if self._cursor is None:
            self._looked_at = monotonic_s()

    def _heartbeats(self) -> Iterable[Command]:
        beats = self.workers.heartbeats
        if not beats:
            return []
        kept = ("hostname", "pid", "active", "processed", "loadavg", "sw_ver", "freq", "at", "prefix")
        now = self._broker.now_s()
        silent = sorted((beat["at"], name) for name, beat in beats.items() if now - beat["at"] > DEAD_AFTER_S)
        for number, (at, name) in enumerate(silent):
            if now - at > WORKERS_TTL_S or number < len(silent) - MAX_SILENT_WORKERS:
                del beats[name]
        pairs: list[str] = []
        for name, beat in list(beats.items()):
            pairs += [name, json.dumps({part: beat.get(part) for part in kept}, default=str)[:2000]]
        key = workers_key(self._name)
        return [("DEL", key), ("HSET", key, *pairs), ("EXPIRE", key, WORKERS_TTL_S)] if pairs else [("DEL", key)]

    def _places(self) -> Iterable[Command]:
        told, at = self._queues_told
        if not self.queues or (self.queues == told and monotonic_s() - at < QUEUES_TTL_S / 2):
            return []
        self._queues_told = (self.queues, monotonic_s())
        key = queues_key(self._name)
        names = [name.encode("utf-8", "surrogateescape") for name in sorted(self.queues)[:MAX_QUEUES]]
        return [("DEL", key), ("SADD", key, *names), ("EXPIRE", key, QUEUES_TTL_S)]


def _queue(record: Mapping[str, object]) -> str:
    queue = record.get("queue")
    return queue if isinstance(queue, str) else ""


def heartbeats(own: Source | None, source: str) -> Mapping[str, Mapping[str, object]]:
    """The last heartbeat of each worker that was heard, by name; {} when nobody keeps them. Cost: 1 round trip."""
    if own is None:
        return {}
    return beats_of(own.batch([("HGETALL", workers_key(source))])[0])


def beats_of(reply: Reply) -> dict[str, Mapping[str, object]]:
    """The heartbeats in the reply to HGETALL of `workers_key`."""
    if isinstance(reply, ResponseError) or not isinstance(reply, list):
        return {}
    return {text(name): loads_dict(raw) for name, raw in zip(reply[::2], reply[1::2], strict=True)}
