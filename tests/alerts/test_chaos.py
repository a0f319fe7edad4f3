"""Real checkers as processes of their own, a real Redis and a real HTTP sink, and what happens at night."""

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
from tests.alerts.incident_scenario import QUICK, Night
from tests.conftest import SERVERS
from tests.contract.bullmq_library import BullMQLibrary
from tests.waiting import wait_until


def test_leaders_that_stop_and_die_make_one_alert_of_one_incident(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.check()
    asleep = night.leader()
    night.fill()
    night.tells("deep", "firing")
    night.noted()
    asleep.send(signal.SIGSTOP)
    night.as_when_the_lease_ran_out()
    wait_until(lambda: night.leader() is not asleep, what="another leader")
    asleep.send(signal.SIGCONT)
    killed = night.leader()
    killed.kill()
    night.as_when_the_lease_ran_out()
    wait_until(lambda: night.leader() is asleep, what="the first leader again")
    night.drain()
    night.tells("deep", "firing", "resolved")
    assert len({message["episode"] for message in night.messages()}) == 1
    assert len({message["id"] for message in night.messages()}) == 2


def test_a_redis_that_is_killed_and_comes_back_empty_loses_no_end(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check(recover_for_s=0)
    night.fill()
    night.tells("deep", "firing")
    night.server.stop(kill=True)
    night.server.start()
    night.fill()
    wait_until(lambda: night.heart() and night.redis.scard(keys.LIVE), what="the states back")
    night.drain()
    night.tells("deep", "firing", "resolved")
    # That Redis was gone is told as well, when its return took long.
    assert len({message["episode"] for message in night.messages() if message["rule_id"] == "deep"}) == 1


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_full_redis_is_reported(begin: Callable[..., Night], name: str) -> None:
    night = begin(name)
    night.check()
    night.redis.config_set("maxmemory", 1)
    night.tells("redis-writes-refused", "firing")
    night.redis.config_set("maxmemory", 0)
    night.tells("redis-writes-refused", "firing", "resolved")


def test_a_primary_that_becomes_a_replica_is_reported(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    night.tells("redis-writes-refused", "firing")
    night.redis.execute_command("REPLICAOF", "NO", "ONE")
    night.tells("redis-writes-refused", "firing", "resolved")


def test_a_redis_that_cannot_save_and_refuses_writes_is_reported(begin: Callable[..., Night], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    night = begin("redis-7", "--dir", str(data))
    night.check()
    data.rmdir()
    night.redis.config_set("save", "1 1")
    wait_until(lambda: night.redis.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")
    night.tells("redis-writes-refused", "firing")
    data.mkdir()
    night.redis.config_set("save", "")
    night.redis.config_set("stop-writes-on-bgsave-error", "no")
    night.tells("redis-writes-refused", "firing", "resolved")


def test_a_redis_that_does_not_respond_is_reported(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    assert night.server.pid is not None
    os.kill(night.server.pid, signal.SIGSTOP)
    try:
        night.tells("redis-unreachable", "firing")
    finally:
        os.kill(night.server.pid, signal.SIGCONT)
    night.tells("redis-unreachable", "firing", "resolved")


def test_an_outage_of_redis_and_its_end_are_reported(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.server.stop(kill=True)
    night.tells("redis-unreachable", "firing")
    night.server.start()
    night.tells("redis-unreachable", "firing", "resolved")
    wait_until(lambda: night.redis.xlen(keys.EPISODES) == 2, what="the history")


def test_a_sink_that_fails_gets_it_later_and_in_order(begin: Callable[..., Night]) -> None:
    night = begin()
    night.sink.answers = [status(500), status(429, Retry_After="1"), status(200)]
    night.check()
    night.fill()
    wait_until(lambda: len(night.sink.requests) >= 2, what="the second try")
    night.drain()
    night.tells("deep", "firing", "resolved")
    kinds = [message["kind"] for message in night.messages()]
    assert kinds == ["firing", "firing", "firing", "resolved"]
    assert len({message["id"] for message in night.messages()[:3]}) == 1


def test_a_redis_that_is_killed_and_loads_its_data_for_long(begin: Callable[..., Night]) -> None:
    # It loads for two minutes, unless it is hurried.
    night = begin("redis-7", "--appendonly", "yes", "--key-load-delay", "400")
    night.redis.eval("for number = 1, ARGV[1] do redis.call('SET', 'ballast:' .. number, 'x') end", 0, 300_000)
    checker = night.check()
    night.fill()
    night.tells("deep", "firing")
    # Paused, it meets a server that loads its data, and not one that refuses connections.
    checker.send(signal.SIGSTOP)
    night.server.stop(kill=True)
    night.server.start()
    with pytest.raises(redis.BusyLoadingError):
        night.redis.ping()
    checker.send(signal.SIGCONT)
    night.tells("redis-unreachable", "firing")
    (told,) = [message for message in night.messages() if message["rule_id"] == "redis-unreachable"]
    assert "loading" in json.dumps(told), told
    night.redis.config_set("key-load-delay", 0)
    night.tells("redis-unreachable", "firing", "resolved")
    night.drain()
    night.tells("deep", "firing", "resolved")  # of the same episode, since the data is there
    assert len({message["episode"] for message in night.messages() if message["rule_id"] == "deep"}) == 1


def test_a_script_that_blocks_redis_is_reported(begin: Callable[..., Night]) -> None:
    night = begin("redis-7", "--busy-reply-threshold", "100")
    night.check()
    with ThreadPoolExecutor() as pool, redis.Redis.from_url(night.server.url) as other:
        endless = pool.submit(other.eval, "while true do end", 0)
        try:
            night.tells("redis-unreachable", "firing")
        finally:
            night.redis.script_kill()
        assert "killed" in str(endless.exception(60))
    night.tells("redis-unreachable", "firing", "resolved")


@pytest.mark.parametrize("what", ["WRITE", pytest.param("ALL", marks=pytest.mark.soak)])
def test_a_redis_that_pauses_its_clients_is_reported(begin: Callable[..., Night], what: str) -> None:
    night = begin()
    night.check()
    night.fill()
    night.tells("deep", "firing")
    # Who holds all up still hears its replicas.
    with redis.Redis.from_url(night.server.url, single_connection_client=True) as replica:
        assert replica.connection is not None
        replica.connection.send_command("SYNC")
        wait_until(lambda: night.redis.info("replication")["connected_slaves"] == 1, what="the replica")
        night.redis.execute_command("CLIENT", "PAUSE", 600_000, what)
        night.tells("redis-unreachable", "firing")
        replica.connection.send_command("CLIENT", "UNPAUSE")
        night.tells("redis-unreachable", "firing", "resolved")
    night.drain()
    night.tells("deep", "firing", "resolved")


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_one_gunicorn_worker_notifies_and_another_resolves(begin: Callable[..., Night], workers: int) -> None:
    night = begin()
    config = night.configure()
    night.drain()
    command = ["-m", "gunicorn", "wsgi:app", "--workers", str(workers), "--threads", "2", "--no-control-socket"]
    command += ["-c", "python:dashboard.web.server", "--bind", "127.0.0.1:0"]
    master = night.begin(command, QUEUEDECK_CONFIG=str(config))
    wait_until(lambda: len(psutil.Process(master.pid).children()) == workers, what="the workers")
    first: int = wait_until(night.holder, what="a leader")
    assert first in {child.pid for child in psutil.Process(master.pid).children()}
    night.fill()
    night.tells("deep", "firing")
    night.noted()
    os.kill(first, signal.SIGKILL)
    night.as_when_the_lease_ran_out()
    wait_until(lambda: night.holder() not in (None, first), what="another leader")
    night.drain()
    night.tells("deep", "firing", "resolved")
    assert [message["kind"] for message in night.messages()] == ["firing", "resolved"]
    assert len({message["episode"] for message in night.messages()}) == 1


# Ticks in which each of the rules would fire if it wanted to, and its message be sent.
ENOUGH = 5


# Each steps both ways, since the clock is set right again.
@pytest.mark.parametrize("hour", [3600, pytest.param(-3600, marks=pytest.mark.soak)])
def test_the_clock_of_the_host_steps_by_an_hour(begin: Callable[..., Night], hour: int) -> None:
    night = begin()
    library = BullMQLibrary()
    library.drive("add", night.server.url, "video")
    library.drive("add", night.server.url, "video", opts={"delay": 1_800_000})
    clock = night.folder / "clock"
    clock.write_text("0")
    judged = ("queue-latency", "queue-overdue", "queue-no-progress", "redis-unreachable")
    at_once = {**QUICK, "new_instance_grace_s": 0}
    rules: dict[str, dict[str, Any]] = dict.fromkeys(judged, at_once)
    # Far beyond what a busy machine does to a tick, far below an hour.
    rules["redis-unreachable"] = {**at_once, "critical": 60}
    rules["checker-slow"] = {**at_once, "critical": 60, "enabled": True}
    config = night.configure(rules)
    night.drain()
    night.begin(["-m", "tests.alerts.step_clock", str(clock), "checker", "--config", str(config)])

    def ticks(count: int) -> None:
        seen: set[bytes] = set()

        def beats() -> int:
            seen.add(night.heart().get(b"at", b""))
            return len(seen - {b""})

        wait_until(lambda: beats() > count, what="more ticks")

    ticks(ENOUGH)
    night.fill()
    night.tells("deep", "firing")
    clock.write_text(str(hour))
    ticks(ENOUGH)
    assert [message["rule_id"] for message in night.messages()] == ["deep"]
    night.drain()
    night.tells("deep", "firing", "resolved")
    clock.write_text("0")
    night.fill()
    night.tells("deep", "firing", "resolved", "firing")
    ticks(ENOUGH)
    assert {message["rule_id"] for message in night.messages()} == {"deep"}
