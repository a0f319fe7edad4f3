"""A Redis that fills up to its maxmemory: foretold while there is time, told when it is full, by HTTP and by mail."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import redis

from tests.alerts.channels.smtp import SmtpSink
from tests.alerts.night import QUICK, Night
from tests.conftest import SERVERS
from tests.waiting import wait_until

MIB = 1024 * 1024
LIMIT = 48 * MIB
FILLS_IN_S = 30.0
EVERY_S = 0.05


class Writer:
    """Somebody's application: it writes at a steady pace until there is no room, and then still tries."""

    def __init__(self, url: str) -> None:
        self.full = threading.Event()
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _write(self) -> None:
        size, written = int(LIMIT * 0.4 / FILLS_IN_S * EVERY_S), 0
        with redis.Redis.from_url(self._url) as client:
            while not self._stop.wait(EVERY_S):
                try:
                    client.set(f"ballast:{written}", b"x" * size)
                    written += 1
                except redis.OutOfMemoryError:
                    self.full.set()
                    size = max(size // 2, 16)  # into the last gap


def fill_to(client: redis.Redis, share: float) -> None:
    for number in range(100_000):
        if client.info("memory")["used_memory"] >= LIMIT * share:
            return
        client.set(f"first:{number}", b"x" * 100_000)


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_it_is_foretold_while_there_is_room_and_told_when_there_is_none(begin: Callable[..., Night], name: str) -> None:
    night = begin(name, "--maxmemory", str(LIMIT), "--maxmemory-policy", "noeviction")
    mail = SmtpSink()
    night.stack.callback(mail.close)
    night.lines += [
        *("[[channels]]", 'id = "mail"', 'kind = "email"', 'host = "127.0.0.1"', f"port = {mail.port}"),
        *('tls = "none"', 'from = "deck@example.com"', 'to = ["ops@example.com"]'),
    ]
    fill_to(night.redis, 0.6)
    night.check({"redis-memory-full": QUICK, "redis-memory": QUICK})
    writer = Writer(night.server.url)
    night.stack.callback(writer.stop)
    writer.start()
    night.tells("redis-memory-full", "firing")
    assert not writer.full.is_set()
    assert night.told("redis-writes-refused") == []
    wait_until(writer.full.is_set, what="the end of the memory")
    night.tells("redis-writes-refused", "firing")
    (told,) = [message for message in night.messages() if message["rule_id"] == "redis-writes-refused"]
    # Redis 6 stores nothing when it is full, so that the process tells it by itself.
    assert told["episode"].startswith("local-") is (name == "redis-6")
    words = ("going to be full", "refuses writes")

    def mailed() -> list[str]:
        return [word for each in mail.mails for word in words if word in each["Subject"]]

    wait_until(lambda: len(mailed()) >= 2, what="the mails")
    assert mailed() == list(words)
    writer.stop()
    night.redis.delete(*night.redis.scan_iter("ballast:*"), *night.redis.scan_iter("first:*"))
    night.tells("redis-writes-refused", "firing", "resolved")
    night.tells("redis-memory-full", "firing", "resolved")
    assert {message["severity"] for message in night.messages() if message["rule_id"] == "redis-memory-full"} == {
        "critical"
    }
