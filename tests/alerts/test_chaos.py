"""Incidents with real checker processes, a real Redis and a real HTTP receiver."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from dashboard.alerts import keys
from tests.alerts.channels.fake_providers import status
from tests.alerts.incident_scenario import QUICK, IncidentScenario
from tests.conftest import SERVERS
from tests.contract.bullmq_library import BullMQLibrary
from tests.waiting import wait_until


def test_leaders_that_pause_or_die_send_one_alert_per_incident(
    make_scenario: Callable[..., IncidentScenario],
) -> None:
    scenario = make_scenario()
    scenario.start_checker()
    scenario.start_checker()
    paused = scenario.leader()
    scenario.fill()
    scenario.await_kinds("deep", "firing")
    scenario.await_sent()
    paused.send(signal.SIGSTOP)
    scenario.expire_lease()
    wait_until(lambda: scenario.leader() is not paused, what="another leader")
    paused.send(signal.SIGCONT)
    killed = scenario.leader()
    killed.kill()
    scenario.expire_lease()
    wait_until(lambda: scenario.leader() is paused, what="the first leader again")
    scenario.drain()
    scenario.await_kinds("deep", "firing", "resolved")
    assert len({message["episode"] for message in scenario.messages()}) == 1
    assert len({message["id"] for message in scenario.messages()}) == 2


def test_an_alert_resolves_after_redis_restarts_empty(
    make_scenario: Callable[..., IncidentScenario],
) -> None:
    scenario = make_scenario()
    scenario.start_checker(recover_for_s=0)
    scenario.fill()
    scenario.await_kinds("deep", "firing")
    scenario.server.stop(kill=True)
    scenario.server.start()
    scenario.fill()
    wait_until(lambda: scenario.heartbeat() and scenario.redis.scard(keys.LIVE), what="the states back")
    scenario.drain()
    scenario.await_kinds("deep", "firing", "resolved")
    # The outage of Redis is reported as well, if its restart took long.
    assert len({message["episode"] for message in scenario.messages() if message["rule_id"] == "deep"}) == 1


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_full_redis_is_reported(make_scenario: Callable[..., IncidentScenario], name: str) -> None:
    scenario = make_scenario(name)
    scenario.start_checker()
    scenario.redis.config_set("maxmemory", 1)
    scenario.await_kinds("redis-writes-refused", "firing")
    scenario.redis.config_set("maxmemory", 0)
    scenario.await_kinds("redis-writes-refused", "firing", "resolved")


def test_a_primary_that_becomes_a_replica_is_reported(make_scenario: Callable[..., IncidentScenario]) -> None:
    scenario = make_scenario()
    scenario.start_checker()
    scenario.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    scenario.await_kinds("redis-writes-refused", "firing")
    scenario.redis.execute_command("REPLICAOF", "NO", "ONE")
    scenario.await_kinds("redis-writes-refused", "firing", "resolved")


def test_a_redis_that_cannot_save_and_refuses_writes_is_reported(
    make_scenario: Callable[..., IncidentScenario], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    scenario = make_scenario("redis-7", "--dir", str(data))
    scenario.start_checker()
    data.rmdir()
    scenario.redis.config_set("save", "1 1")
    wait_until(lambda: scenario.redis.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")
    scenario.await_kinds("redis-writes-refused", "firing")
    data.mkdir()
    scenario.redis.config_set("save", "")
    scenario.redis.config_set("stop-writes-on-bgsave-error", "no")
    scenario.await_kinds("redis-writes-refused", "firing", "resolved")


def test_a_redis_that_does_not_respond_is_reported(make_scenario: Callable[..., IncidentScenario]) -> None:
    scenario = make_scenario()
    scenario.start_checker()
    assert scenario.server.pid is not None
    os.kill(scenario.server.pid, signal.SIGSTOP)
    try:
        scenario.await_kinds("redis-unreachable", "firing")
    finally:
        os.kill(scenario.server.pid, signal.SIGCONT)
    scenario.await_kinds("redis-unreachable", "firing", "resolved")


def test_an_outage_of_redis_and_its_end_are_reported(make_scenario: Callable[..., IncidentScenario]) -> None:
    scenario = make_scenario()
    scenario.start_checker()
    scenario.server.stop(kill=True)
    scenario.await_kinds("redis-unreachable", "firing")
    scenario.server.start()
    scenario.await_kinds("redis-unreachable", "firing", "resolved")
    wait_until(lambda: scenario.redis.xlen(keys.EPISODES) == 2, what="the history")


def test_a_failing_receiver_gets_notifications_later_and_in_order(
    make_scenario: Callable[..., IncidentScenario],
) -> None:
    scenario = make_scenario()
    scenario.sink.answers = [status(500), status(429, Retry_After="1"), status(200)]
    scenario.start_checker()
    scenario.fill()
    wait_until(lambda: len(scenario.sink.requests) >= 2, what="the second try")
    scenario.drain()
    scenario.await_kinds("deep", "firing", "resolved")
    kinds = [message["kind"] for message in scenario.messages()]
    assert kinds == ["firing", "firing", "firing", "resolved"]
    assert len({message["id"] for message in scenario.messages()[:3]}) == 1


def test_a_redis_that_is_slow_to_load_its_data_is_reported(make_scenario: Callable[..., IncidentScenario]) -> None:
    # It loads for two minutes, unless the delay is removed: a key each 0.12 s, and answers clients after each of them.
    slowly = ("--key-load-delay", "120000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no")
    scenario = make_scenario("redis-7", *slowly)
    scenario.redis.mset({f"ballast:{number}": "x" * 1100 for number in range(1000)})
    checker = scenario.start_checker()
    scenario.fill()
    scenario.await_kinds("deep", "firing")
    # Suspended, the checker meets a server that loads its data, and not one that refuses connections.
    checker.send(signal.SIGSTOP)
    scenario.redis.save()
    scenario.server.stop(kill=True)
    scenario.server.start()
    with pytest.raises(redis.BusyLoadingError):
        scenario.redis.ping()
    checker.send(signal.SIGCONT)
    scenario.await_kinds("redis-unreachable", "firing")
    (outage,) = [message for message in scenario.messages() if message["rule_id"] == "redis-unreachable"]
    assert "loading" in json.dumps(outage), outage
    scenario.redis.config_set("key-load-delay", 0)
    scenario.await_kinds("redis-unreachable", "firing", "resolved")
    scenario.drain()
    scenario.await_kinds("deep", "firing", "resolved")  # of the same episode, since the data was kept
    assert len({message["episode"] for message in scenario.messages() if message["rule_id"] == "deep"}) == 1


def test_a_script_that_blocks_redis_is_reported(make_scenario: Callable[..., IncidentScenario]) -> None:
    scenario = make_scenario("redis-7", "--busy-reply-threshold", "100")
    scenario.start_checker()
    with ThreadPoolExecutor() as pool, redis.Redis.from_url(scenario.server.url) as other:
        endless = pool.submit(other.eval, "while true do end", 0)
        try:
            scenario.await_kinds("redis-unreachable", "firing")
        finally:
            scenario.redis.script_kill()
        assert "killed" in str(endless.exception(60))
    scenario.await_kinds("redis-unreachable", "firing", "resolved")


@pytest.mark.parametrize("what", ["WRITE", pytest.param("ALL", marks=pytest.mark.soak)])
def test_a_redis_that_pauses_its_clients_is_reported(make_scenario: Callable[..., IncidentScenario], what: str) -> None:
    scenario = make_scenario()
    scenario.start_checker()
    scenario.fill()
    scenario.await_kinds("deep", "firing")
    # A Redis that pauses its clients still reads commands from its replicas.
    with redis.Redis.from_url(scenario.server.url, single_connection_client=True) as replica:
        assert replica.connection is not None
        replica.connection.send_command("SYNC")
        wait_until(lambda: scenario.redis.info("replication")["connected_slaves"] == 1, what="the replica")
        scenario.redis.execute_command("CLIENT", "PAUSE", 600_000, what)
        scenario.await_kinds("redis-unreachable", "firing")
        replica.connection.send_command("CLIENT", "UNPAUSE")
        scenario.await_kinds("redis-unreachable", "firing", "resolved")
    scenario.drain()
    scenario.await_kinds("deep", "firing", "resolved")


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_one_gunicorn_worker_notifies_and_another_resolves(
    make_scenario: Callable[..., IncidentScenario], workers: int
) -> None:
    scenario = make_scenario()
    config = scenario.configure()
    scenario.drain()
    command = ["-m", "gunicorn", "wsgi:app", "--workers", str(workers), "--threads", "2", "--no-control-socket"]
    command += ["-c", "python:dashboard.web.server", "--bind", "127.0.0.1:0"]
    master = scenario.start_python(command, QUEUEDECK_CONFIG=str(config))
    wait_until(lambda: len(psutil.Process(master.pid).children()) == workers, what="the workers")
    first: int = wait_until(scenario.holder, what="a leader")
    assert first in {child.pid for child in psutil.Process(master.pid).children()}
    scenario.fill()
    scenario.await_kinds("deep", "firing")
    scenario.await_sent()
    os.kill(first, signal.SIGKILL)
    scenario.expire_lease()
    wait_until(lambda: scenario.holder() not in (None, first), what="another leader")
    scenario.drain()
    scenario.await_kinds("deep", "firing", "resolved")
    assert [message["kind"] for message in scenario.messages()] == ["firing", "resolved"]
    assert len({message["episode"] for message in scenario.messages()}) == 1


# Evaluations within which each of the rules could fire and its message be sent.
ENOUGH = 5


# Each steps both ways, since the clock is corrected again.
@pytest.mark.parametrize("hour", [3600, pytest.param(-3600, marks=pytest.mark.soak)])
def test_a_step_of_the_host_clock_fires_no_alert(make_scenario: Callable[..., IncidentScenario], hour: int) -> None:
    scenario = make_scenario()
    library = BullMQLibrary()
    library.drive("add", scenario.server.url, "video")
    library.drive("add", scenario.server.url, "video", opts={"delay": 1_800_000})
    clock = scenario.folder / "clock"
    clock.write_text("0")
    judged = ("queue-latency", "queue-overdue", "queue-no-progress", "redis-unreachable")
    at_once = {**QUICK, "new_instance_grace_s": 0}
    rules: dict[str, dict[str, Any]] = dict.fromkeys(judged, at_once)
    # Far longer than an evaluation takes on a busy machine, far shorter than an hour.
    rules["redis-unreachable"] = {**at_once, "critical": 60}
    rules["checker-slow"] = {**at_once, "critical": 60, "enabled": True}
    config = scenario.configure(rules)
    scenario.drain()
    scenario.start_python(["-m", "tests.alerts.step_clock", str(clock), "checker", "--config", str(config)])

    def await_evaluations(count: int) -> None:
        times: set[bytes] = set()

        def count_evaluations() -> int:
            times.add(scenario.heartbeat().get(b"at", b""))
            return len(times - {b""})

        wait_until(lambda: count_evaluations() > count, what="more evaluations")

    await_evaluations(ENOUGH)
    scenario.fill()
    scenario.await_kinds("deep", "firing")
    clock.write_text(str(hour))
    await_evaluations(ENOUGH)
    assert [message["rule_id"] for message in scenario.messages()] == ["deep"]
    scenario.drain()
    scenario.await_kinds("deep", "firing", "resolved")
    clock.write_text("0")
    scenario.fill()
    scenario.await_kinds("deep", "firing", "resolved", "firing")
    await_evaluations(ENOUGH)
    assert {message["rule_id"] for message in scenario.messages()} == {"deep"}
