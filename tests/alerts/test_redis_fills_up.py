"""A Redis that fills up to its maxmemory: foretold while there is time, told when it is full, by HTTP and by mail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.alerts.channels.smtp import SmtpSink
from tests.alerts.incident_scenario import QUICK, IncidentScenario
from tests.conftest import NEWEST, OLDER
from tests.waiting import wait_until

MIB = 1024 * 1024
LIMIT = 48 * MIB
# In so many ticks it would be full; a forecast needs twenty samples.
FILLS_IN_TICKS = 80
STEPS = FILLS_IN_TICKS * 3 // 4


class Writer:
    """Somebody's application: it writes at a steady pace, and when there is no room, it still tries."""

    def __init__(self, scenario: IncidentScenario) -> None:
        self._night = scenario
        self._seen: set[bytes] = set()
        self._written = 0

    def keep_pace(self) -> None:
        """Write a bit for each tick of the checker; STEPS of them at most, which leaves room."""
        beat = self._night.heartbeat().get(b"at", b"")
        if beat not in self._seen and len(self._seen) < STEPS:
            self._seen.add(beat)
            self._write(int(LIMIT * 0.4 / FILLS_IN_TICKS))

    def fill(self) -> None:
        """Write until there is no room for the least."""
        for size in (100_000, 1000, 16):
            try:
                while True:
                    self._write(size)
            except redis.OutOfMemoryError:
                pass

    def _write(self, size: int) -> None:
        self._night.redis.set(f"ballast:{self._written}", b"x" * size)
        self._written += 1


def fill_to(client: redis.Redis, share: float) -> None:
    for number in range(100_000):
        if client.info("memory")["used_memory"] >= LIMIT * share:
            return
        client.set(f"first:{number}", b"x" * 100_000)


@pytest.mark.parametrize("name", [NEWEST, *(pytest.param(name, marks=pytest.mark.soak) for name in OLDER)])
def test_a_redis_that_fills_up_is_forecast_and_reported_when_full(
    make_scenario: Callable[..., IncidentScenario], name: str
) -> None:
    scenario = make_scenario(name, "--maxmemory", str(LIMIT), "--maxmemory-policy", "noeviction")
    mail = SmtpSink()
    scenario.stack.callback(mail.close)
    scenario.lines += [
        *("[[channels]]", 'id = "mail"', 'kind = "email"', 'host = "127.0.0.1"', f"port = {mail.port}"),
        *('tls = "none"', 'from = "deck@example.com"', 'to = ["ops@example.com"]'),
    ]
    fill_to(scenario.redis, 0.6)
    scenario.start_checker({"redis-memory-full": QUICK, "redis-memory": QUICK})
    writer = Writer(scenario)

    def foretold() -> bool:
        writer.keep_pace()
        return scenario.kinds_received("redis-memory-full") == ["firing"]

    def told_refused() -> bool:
        writer.fill()  # again and again: what ends elsewhere leaves a gap
        return scenario.kinds_received("redis-writes-refused") == ["firing"]

    wait_until(foretold, what="the forecast")
    assert scenario.kinds_received("redis-writes-refused") == []
    wait_until(told_refused, what="the alert that it is full")
    (told,) = [message for message in scenario.messages() if message["rule_id"] == "redis-writes-refused"]
    # Redis 6 stores nothing when it is full, so that the process tells it by itself.
    assert told["episode"].startswith("local-") is (name == "redis-6")
    words = ("run out of memory", "refusing writes")

    def mailed() -> list[str]:
        return [word for each in mail.mails for word in words if word in each["Subject"]]

    wait_until(lambda: len(mailed()) >= 2, what="the mails")
    assert mailed() == list(words)
    scenario.redis.delete(*scenario.redis.scan_iter("ballast:*"), *scenario.redis.scan_iter("first:*"))
    scenario.await_kinds("redis-writes-refused", "firing", "resolved")
    scenario.await_kinds("redis-memory-full", "firing", "resolved")
    assert {message["severity"] for message in scenario.messages() if message["rule_id"] == "redis-memory-full"} == {
        "critical"
    }
