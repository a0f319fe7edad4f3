"""A Redis that fills up to its maxmemory: forecast in advance and reported when full, by HTTP and by mail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.alerts.channels.smtp import SmtpSink
from tests.alerts.incident_scenario import QUICK, IncidentScenario
from tests.conftest import OTHERS, USUAL
from tests.waiting import wait_until

MIB = 1024 * 1024
LIMIT = 48 * MIB
# It would be full after this many evaluations; a forecast needs twenty samples.
FILLS_IN_EVALUATIONS = 80
STEPS = FILLS_IN_EVALUATIONS * 3 // 4


class Writer:
    """An application that writes at a steady pace and keeps trying when Redis is full."""

    def __init__(self, scenario: IncidentScenario) -> None:
        self._scenario = scenario
        self._heartbeats: set[bytes] = set()
        self._written = 0

    def keep_pace(self) -> None:
        """Write a little for each evaluation of the checker, for STEPS of them at most, which leaves room."""
        heartbeat = self._scenario.heartbeat().get(b"at", b"")
        if heartbeat not in self._heartbeats and len(self._heartbeats) < STEPS:
            self._heartbeats.add(heartbeat)
            self._write(int(LIMIT * 0.4 / FILLS_IN_EVALUATIONS))

    def fill(self) -> None:
        """Write until Redis refuses, then lower the limit below the memory in use.

        With the lower limit, writes stay refused while other clients free a little memory.
        """
        for size in (100_000, 1000, 16):
            try:
                while True:
                    self._write(size)
            except redis.OutOfMemoryError:
                pass
        self._scenario.redis.config_set("maxmemory", LIMIT - 2 * MIB)

    def _write(self, size: int) -> None:
        self._scenario.redis.set(f"ballast:{self._written}", b"x" * size)
        self._written += 1


def fill_to(client: redis.Redis, share: float) -> None:
    for number in range(100_000):
        if client.info("memory")["used_memory"] >= LIMIT * share:
            return
        client.set(f"first:{number}", b"x" * 100_000)


@pytest.mark.parametrize("name", [USUAL, *(pytest.param(name, marks=pytest.mark.soak) for name in OTHERS)])
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

    def forecast_received() -> bool:
        writer.keep_pace()
        return scenario.kinds_received("redis-memory-full") == ["firing"]

    wait_until(forecast_received, what="the forecast")
    assert scenario.kinds_received("redis-writes-refused") == []
    writer.fill()
    scenario.await_kinds("redis-writes-refused", "firing")
    (refusal,) = [message for message in scenario.messages() if message["rule_id"] == "redis-writes-refused"]
    # Redis 6 stores nothing when it is full, so that the process notifies without the store.
    assert refusal["episode"].startswith("local-") is (name == "redis-6")
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
