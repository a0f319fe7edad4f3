"""The live feed of Celery: each write of a result is published, and each worker tells that it lives every two seconds.

One thread per source, in the process that samples. It only appends to bounded queues; what does not fit is counted as
lost, and after a broken connection the figures say that they have a gap.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
from collections import deque
from typing import Any

import redis

from dashboard.backends.celery.keys import RECORD
from dashboard.backends.payload import loads_dict, text
from dashboard.clock import now_s
from dashboard.sources import Source

log = logging.getLogger(__name__)

MAX_WAITING = 20_000
MAX_WORKERS = 2000
# A record is looked into as far as this; a longer one is counted without its queue.
RECORD_LIMIT = 65_536
RECONNECT_S = 2.0
HEARTBEAT = b"worker.heartbeat"


class Listener:
    """What was published since it was last asked. `drain` is called by one thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stop = threading.Event()
        self._ended: deque[tuple[bytes, bytes]] = deque()
        self.received = 0  # records, since the start
        self._lost = 0
        self._gap = True
        self._connected = False
        self.heartbeats: dict[str, dict[str, Any]] = {}  # by worker, with `at`, seconds since 1970
        self._thread = threading.Thread(target=self._run, name=f"queuedeck-celery-{source.name}", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the feed is being heard now."""
        return self._connected

    def drain(self) -> tuple[list[tuple[bytes, bytes]], bool]:
        """((channel, record) of what ended since the last call, whether nothing was missed meanwhile)."""
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        whole = self._connected and not self._gap and not self._lost
        self._lost, self._gap = 0, not self._connected
        return ended, whole

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(3)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._source.transact(self._listen)
            except Exception as exc:
                # Whatever ends it, the feed must come back by itself: nobody else starts it again.
                log.debug("celery feed of %s ended: %s", self._source.name, exc)
            self._connected, self._gap = False, True
            self._stop.wait(RECONNECT_S)

    def _listen(self, client: redis.Redis) -> None:
        feeds = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        with contextlib.closing(feeds) as feed:
            feed.psubscribe(f"*{RECORD}*", "/*.celeryev/worker.heartbeat", "*/*.celeryev/worker.heartbeat")
            self._connected = True
            while not self._stop.is_set():
                message = feed.get_message(timeout=1.0)
                if message is not None:
                    self._take(message["channel"], message["data"])

    def _take(self, channel: bytes, data: Any) -> None:
        if not isinstance(data, bytes):
            return
        if channel.endswith(HEARTBEAT):
            self._heartbeat(data)
            return
        if len(self._ended) >= MAX_WAITING:
            self._lost += 1
        else:
            self._ended.append((channel, data[:RECORD_LIMIT]))
        self.received += 1

    def _heartbeat(self, data: bytes) -> None:
        envelope = loads_dict(data)
        body = envelope.get("body")
        if not isinstance(body, str) or envelope.get("content-type") != "application/json":
            return
        try:
            event = loads_dict(base64.b64decode(body))
        except ValueError:
            return
        name = event.get("hostname")
        if isinstance(name, str) and (name in self.heartbeats or len(self.heartbeats) < MAX_WORKERS):
            self.heartbeats[name] = {**event, "at": now_s()}


def task_id(channel: bytes) -> str:
    """The id in a record's key or channel."""
    return text(channel.rpartition(RECORD.encode())[2])
