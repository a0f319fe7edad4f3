"""Celery's live feed: each write of a result is published, each worker sends a heartbeat every two seconds, and a
worker with -E reports how long its tasks took.

There is one thread per server, in the sampling process. It only appends to bounded queues; what does not fit is counted
as lost, and after a broken connection the rates state that they have a gap.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import NoPermissionError

from ...clock import monotonic_s
from ...redact import masked_logger
from ...sources.source import Source, text
from ..payloads.decoding import count_or_none, finite, loads, loads_dict
from .keys import RECORD
from .results.decoding import TAIL_BYTES, RawRecord
from .stored_heartbeats import is_same_process

log = masked_logger(__name__)

MAX_WAITING = 20_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
# Run times are a sample: if there are more task events between two calls, the newest count.
MAX_EVENTS = 500
MAX_WORKERS = 2000
# Of a longer record, only the beginning and the end are kept.
RECORD_LIMIT, HEAD_BYTES = 65_536, 4096
# If more tasks run at the same time, the newest are known.
MAX_STARTED = 5000
MAX_ID = 200
RECONNECT_S = 2.0
# How often the thread checks whether it should stop, and so the longest that `close` waits.
LOOK_UP_S = 0.2
HEARTBEAT = b"worker.heartbeat"
EVENTS = b".celeryev/"
RECORDS = (f"*{RECORD}*",)
ENDS = frozenset(f"task-{word}" for word in ("succeeded", "failed", "retried", "revoked", "rejected"))


def worker_channels(database: int) -> tuple[str, ...]:
    """Return the channels of worker and task events. Channels are shared by all databases of a server, but these
    contain the number of theirs, after the broker's key prefix.
    """
    return tuple(f"*/{database}.celeryev/{kind}" for kind in ("worker.heartbeat", "task.multi", "task.succeeded"))


def refused_channels(source: Source, channels: Sequence[str]) -> list[str]:
    """Return those `channels` that the Redis user is not permitted to subscribe to. Raises BackendUnavailable.

    Cost: 1 connection, and 1 round trip per channel.
    """

    def ask(client: redis.Redis) -> list[str]:
        found = []
        with contextlib.closing(client.pubsub()) as feed:  # type: ignore[no-untyped-call]
            for channel in channels:
                try:
                    feed.psubscribe(channel)
                    feed.parse_response()
                except NoPermissionError:
                    found.append(channel)
        return found

    answer: list[str] = source.run_transaction(ask)
    return answer


def worker_versions(source: Source, seconds: float) -> set[str]:
    """Return the Celery versions that live workers on the broker report; waits for one heartbeat, up to `seconds`.

    Raises BackendUnavailable, and Forbidden if the user is not permitted to subscribe.
    """

    def hear(client: redis.Redis) -> set[str]:
        found: set[str] = set()
        deadline = monotonic_s() + seconds
        feeds = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        with contextlib.closing(feeds) as feed:
            feed.psubscribe(worker_channels(source.database)[0])
            while not found and (left_s := deadline - monotonic_s()) > 0:
                message = feed.get_message(timeout=left_s)
                event = _decode_body(message["data"]) if message and isinstance(message["data"], bytes) else None
                if isinstance(event, dict) and isinstance(event.get("sw_ver"), str):
                    found.add(event["sw_ver"])
        return found

    answer: set[str] = source.run_transaction(hear)
    return answer


class EventListener:
    """Collects what is published between two calls. `drain_records` is called by one thread."""

    def __init__(self, source: Source, channels: Sequence[str]) -> None:
        self._source = source
        self._channels = tuple(channels)
        self._stop = threading.Event()
        self._ended: deque[tuple[bytes, RawRecord]] = deque()
        self._waiting_bytes = 0  # added by the feed; `_drained_bytes` of them were drained
        self._drained_bytes = 0
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self.received = 0  # records, since the start
        self.heard = 0  # task events, since the start
        self._lost = 0
        self._lost_before = 0
        self._gap = True
        self._connected = False
        self.started: dict[str, float] = {}  # by task id, when its start was reported; finished tasks are removed
        self._start_stamps: dict[str, float] = {}  # likewise, by the clock of the worker
        # By worker; `at` and `since`, that of the first one of this process, are in the source's time.
        self.heartbeats: dict[str, dict[str, Any]] = {}
        self._thread = threading.Thread(target=self._run, name=f"queuedeck-celery-{source.name}", daemon=True)
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether the feed is connected now."""
        return self._connected

    def drain_records(self) -> tuple[list[tuple[bytes, RawRecord]], bool]:
        """Return ((channel, record) of each result published since the last call, whether nothing was missed)."""
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        self._drained_bytes += sum(_record_length(record) for _, record in ended)
        lost = self._lost  # each thread writes its own counters only
        whole = self._connected and not self._gap and lost == self._lost_before
        self._lost_before, self._gap = lost, not self._connected
        return ended, whole

    def drain_runtimes(self) -> dict[str, float]:
        """Return task id -> seconds, for tasks that workers reported as succeeded or failed since the last call; a
        sample. Only successes report how long they took: failures are measured from the worker's event of their start.

        Also updates `started` with the tasks that they reported as started.
        """
        found: dict[str, float] = {}
        for data in [self._events.popleft() for _ in range(len(self._events))]:
            body = _decode_body(data)
            for event in body if isinstance(body, list) else [body]:
                name = event.get("uuid") if isinstance(event, dict) else None
                if not isinstance(event, dict) or not isinstance(name, str):
                    continue
                runtime = self._take_task_event(name, event)
                if runtime is not None and 0 <= runtime < 1e9:
                    found[name] = runtime
        for started in (self.started, self._start_stamps):
            while len(started) > MAX_STARTED:
                del started[next(iter(started))]
        return found

    def _take_task_event(self, name: str, event: Mapping[str, Any]) -> float | None:
        """Note the start or the end of a task; return how long it took, if it ended and that is known."""
        kind, at = event.get("type"), finite(event.get("timestamp"))
        if kind == "task-started" and name.isprintable() and len(name) <= MAX_ID:
            self.started[name] = monotonic_s()
            if at is not None:
                self._start_stamps[name] = at
        if kind not in ENDS:
            return None
        self.started.pop(name, None)
        began = self._start_stamps.pop(name, None)
        if kind == "task-succeeded":
            return finite(event.get("runtime"))
        return at - began if kind == "task-failed" and at is not None and began is not None else None

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join(3)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._source.run_transaction(self._listen)
            except Exception as exc:
                # Whatever the error, the feed must recover automatically: nothing else restarts it.
                log.debug("celery feed of %s stopped: %s", self._source.name, exc)
            self._connected, self._gap = False, True
            self._stop.wait(RECONNECT_S)

    def _listen(self, client: redis.Redis) -> None:
        with contextlib.closing(client.pubsub()) as feed:  # type: ignore[no-untyped-call]
            feed.psubscribe(*self._channels)
            self._connected = True
            # `get_message` takes more time per message than all the processing here.
            connection = feed.connection
            while not self._stop.is_set() and self._source.is_to_primary(connection):
                if not connection.can_read(timeout=LOOK_UP_S):
                    continue
                kind, *message = connection.read_response()
                if kind == b"pmessage":
                    _, channel, data = message
                    self._take_message(channel, data)

    def _take_message(self, channel: bytes, data: Any) -> None:
        if not isinstance(data, bytes):
            return
        if channel.endswith(HEARTBEAT):
            self._take_heartbeat(channel, data)
            return
        if EVENTS in channel:
            self.heard += 1
            if len(data) <= RECORD_LIMIT:
                self._events.append(data)
            return
        record = RawRecord(data, b"", len(data))
        if len(data) > RECORD_LIMIT:
            record = RawRecord(data[:HEAD_BYTES], data[-TAIL_BYTES:], len(data))
        if len(self._ended) >= MAX_WAITING or self._waiting_bytes - self._drained_bytes > MAX_WAITING_BYTES:
            self._lost += 1
        else:
            self._waiting_bytes += _record_length(record)
            self._ended.append((channel, record))
        self.received += 1

    def _take_heartbeat(self, channel: bytes, data: bytes) -> None:
        event = _decode_body(data)
        name = event.get("hostname") if isinstance(event, dict) else None
        if isinstance(name, str) and (name in self.heartbeats or len(self.heartbeats) < MAX_WORKERS):
            prefix = text(channel.rpartition(b"/")[0].rpartition(b"/")[0])
            beat = {**_heartbeat_fields(event), "prefix": prefix, "at": self._source.now_s()}
            before = self.heartbeats.get(name)
            same = before is not None and is_same_process(before, beat)
            self.heartbeats[name] = {**beat, "since": before["since"] if before and same else beat["at"]}


def _heartbeat_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a heartbeat that are stored; invalid figures are dropped: any client can send one."""
    version, load = event.get("sw_ver"), event.get("loadavg")
    figures = [finite(part) for part in load[:3]] if isinstance(load, list) else []
    return {
        **{name: count_or_none(event.get(name)) for name in ("pid", "active", "processed", "clock")},
        "sw_ver": version[:40] if isinstance(version, str) else None,
        "loadavg": figures if None not in figures else [],
    }


def _record_length(record: RawRecord) -> int:
    return len(record.head) + len(record.tail)


def _decode_body(data: bytes) -> Any:
    """Return the content of a message of the event exchange; None if it is not JSON."""
    envelope = loads_dict(data)
    body = envelope.get("body")
    if not isinstance(body, str) or envelope.get("content-type") != "application/json":
        return None
    try:
        return loads(base64.b64decode(body))
    except ValueError:
        return None
