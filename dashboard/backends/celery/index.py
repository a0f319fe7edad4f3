"""Which tasks ended: Celery keeps a record of each, but no list of them. So Queuedeck keeps a bounded one of its own.

It lies under `{queuedeck}:celery:<source>:`, one sorted set per status with the newest ids, scored by when they ended,
and a hash of workers. It is filled once by a slow look through the records, and kept by the live feed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from redis.exceptions import ResponseError

from dashboard.backends.base import Budget
from dashboard.backends.celery.keys import ENDED, NATIVE, RECORD
from dashboard.backends.celery.listen import Listener, task_id
from dashboard.backends.celery.message import when
from dashboard.backends.payload import loads_dict, text
from dashboard.backends.scan import scan_step
from dashboard.clock import now_s
from dashboard.model import State
from dashboard.sources import Command, Source

# Ids of at most 200 bytes, so at most about 2 MB a source.
KEPT = {State.DEAD: 5000, State.COMPLETED: 2000, State.CANCELED: 1000}
ID_LIMIT = 200
# What the first look may cost per sample.
FILL_COMMANDS, FILL_SECONDS = 10, 0.05
RECORD_LIMIT = 65_536
CHECKED = 100
WORKERS_TTL_S = 3600
_STATES = {NATIVE[state]: state for state in ENDED}


def index_key(source: str, state: State) -> str:
    """The sorted set of the newest ids of one status."""
    return f"{{queuedeck}}:celery:{source}:{state.value}"


def filled_key(source: str) -> str:
    """Exists when the first look through the records came to its end; a day to live."""
    return f"{{queuedeck}}:celery:{source}:filled"


def workers_key(source: str) -> str:
    """Hash: worker -> its last heartbeat as JSON."""
    return f"{{queuedeck}}:celery:{source}:workers"


@dataclass
class Ended:
    """What the feed told since the last look, by queue; "" where the record does not name it."""

    completed: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    whole: bool = True


class Keeper:
    """Keeps the index of one source; used by the process that samples, by one thread."""

    def __init__(self, results: Source, own: Source, name: str) -> None:
        self._results = results
        self._own = own
        self._name = name
        self.listener = Listener(results)
        self._cursor: int | None = 0
        self._asked = False
        self.ended = Ended()

    def close(self) -> None:
        """End the feed."""
        self.listener.close()

    def tend(self) -> None:
        """Take in what the feed told, go on with the first look, forget what has expired. Cost: 3 to 6 round trips."""
        published, whole = self.listener.drain()
        found = [(task_id(channel), record) for channel, record in published]
        there = self._results.batch([("EXISTS", channel) for channel, _ in published])
        # Channels are the same for all databases of a server, keys are not.
        ours = [entry for entry, exists in zip(found, there, strict=True) if exists == 1]
        self.ended.whole = self.ended.whole and whole
        commands = list(self._added(ours, count=True))
        commands += self._heartbeats()
        if self._cursor is not None:
            commands += self._fill()
        if commands:
            self._own.batch(commands)
        self._forget()

    def _added(self, records: Iterable[tuple[str, bytes]], *, count: bool) -> Iterable[Command]:
        touched: dict[State, dict[str, float]] = {}
        for name, raw in records:
            record = loads_dict(raw)
            state = _STATES.get(str(record.get("status")))
            if state is None or len(name) > ID_LIMIT:
                continue
            done = when(record.get("date_done"))
            touched.setdefault(state, {})[name] = done.timestamp() if done else now_s()
            if count:
                queue = record.get("queue")
                tally = self.ended.dead if state is State.DEAD else self.ended.completed
                tally[queue if isinstance(queue, str) else ""] += 1
        for state, scores in touched.items():
            key = index_key(self._name, state)
            pairs = [part for name, score in scores.items() for part in (repr(score), name)]
            yield ("ZADD", key, *pairs)
            yield ("ZREMRANGEBYRANK", key, 0, -KEPT[state] - 1)
            # A task that is run again under its id leaves the list in which it stood.
            for other in ENDED:
                if other is not state:
                    yield ("ZREM", index_key(self._name, other), *scores)

    def _fill(self) -> Iterable[Command]:
        """One step of the first look through the records, when no process has done it before."""
        if not self._asked:
            self._asked = True
            if self._own.execute("EXISTS", filled_key(self._name)):
                self._cursor = None
                return []
        assert self._cursor is not None
        keys, cursor = scan_step(
            self._results,
            self._cursor,
            Budget(FILL_COMMANDS, FILL_SECONDS),
            match=f"*{RECORD}*",
            key_type="string",
        )
        self._cursor = cursor or None
        records = self._results.batch([("GETRANGE", key, 0, RECORD_LIMIT - 1) for key in keys])
        found = [(task_id(key), raw) for key, raw in zip(keys, records, strict=True) if isinstance(raw, bytes)]
        commands = list(self._added(found, count=False))
        if self._cursor is None:
            commands.append(("SET", filled_key(self._name), 1, "EX", 86_400))
        return commands

    def _heartbeats(self) -> Iterable[Command]:
        beats = self.listener.heartbeats
        if not beats:
            return []
        kept = ("hostname", "pid", "active", "processed", "loadavg", "sw_ver", "freq", "at")
        pairs: list[str] = []
        for name, beat in list(beats.items()):
            if now_s() - beat["at"] > WORKERS_TTL_S:
                del beats[name]
                continue
            pairs += [name, json.dumps({part: beat.get(part) for part in kept}, default=str)[:2000]]
        key = workers_key(self._name)
        return [("DEL", key), ("HSET", key, *pairs), ("EXPIRE", key, WORKERS_TTL_S)] if pairs else [("DEL", key)]

    def _forget(self) -> None:
        """Drop the oldest entries whose records have expired."""
        keys = [index_key(self._name, state) for state in ENDED]
        oldest = self._own.batch([("ZRANGE", key, 0, CHECKED - 1) for key in keys])
        for key, members in zip(keys, oldest, strict=True):
            if not isinstance(members, list) or not members:
                continue
            there = self._results.batch([("EXISTS", RECORD.encode() + member) for member in members])
            gone = [member for member, exists in zip(members, there, strict=True) if exists == 0]
            if gone:
                self._own.batch([("ZREM", key, *gone)])


def heartbeats(own: Source | None, source: str) -> Mapping[str, Mapping[str, object]]:
    """The last heartbeat of each worker that was heard, by name; {} when nobody keeps them. Cost: 1 round trip."""
    if own is None:
        return {}
    reply = own.batch([("HGETALL", workers_key(source))])[0]
    if isinstance(reply, ResponseError):
        return {}
    return {text(name): loads_dict(raw) for name, raw in zip(reply[::2], reply[1::2], strict=True)}
