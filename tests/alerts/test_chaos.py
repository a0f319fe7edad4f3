"""Real checkers as processes of their own, a real Redis and a real HTTP sink, and what happens at night."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard.alerts import keys
from tests.alerts.channels.sinks import status
from tests.alerts.night import Night
from tests.alerts.rig import eventually
from tests.conftest import SERVERS


def test_leaders_that_stop_and_die_make_one_alert_of_one_incident(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.check()
    asleep = night.leader()
    night.fill()
    night.tells("deep", "firing")
    asleep.send_signal(signal.SIGSTOP)
    night.as_when_the_lease_ran_out()
    eventually(lambda: night.leader() is not asleep, what="another leader", within_s=20)
    asleep.send_signal(signal.SIGCONT)
    killed = night.leader()
    killed.kill()
    killed.wait(10)
    night.as_when_the_lease_ran_out()
    eventually(lambda: night.leader() is asleep, what="the first leader again", within_s=20)
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
    eventually(lambda: night.heart() and night.redis.scard(keys.LIVE), what="the states back", within_s=20)
    night.drain()
    night.tells("deep", "firing", "resolved")
    assert len({message["episode"] for message in night.messages()}) == 1


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_redis_that_is_full_is_told(begin: Callable[..., Night], name: str) -> None:
    night = begin(name)
    night.check()
    night.redis.config_set("maxmemory", 1)
    night.tells("redis-writes-refused", "firing")
    night.redis.config_set("maxmemory", 0)
    night.tells("redis-writes-refused", "firing", "resolved")


def test_a_primary_that_becomes_a_replica_is_told(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    night.tells("redis-writes-refused", "firing")
    night.redis.execute_command("REPLICAOF", "NO", "ONE")
    night.tells("redis-writes-refused", "firing", "resolved")


def test_a_redis_that_cannot_save_and_stops_taking_writes_is_told(begin: Callable[..., Night], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    night = begin("redis-7", "--dir", str(data))
    night.check()
    data.rmdir()
    night.redis.config_set("save", "1 1")
    eventually(lambda: night.redis.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")
    night.tells("redis-writes-refused", "firing")
    data.mkdir()
    night.redis.config_set("save", "")
    night.redis.config_set("stop-writes-on-bgsave-error", "no")
    night.tells("redis-writes-refused", "firing", "resolved")


def test_a_redis_that_answers_nobody_is_told(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    assert night.server.pid is not None
    os.kill(night.server.pid, signal.SIGSTOP)
    try:
        night.tells("redis-unreachable", "firing")
    finally:
        os.kill(night.server.pid, signal.SIGCONT)
    night.tells("redis-unreachable", "firing", "resolved")


def test_a_redis_that_is_gone_is_told_and_its_return_too(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.server.stop(kill=True)
    night.tells("redis-unreachable", "firing")
    night.server.start()
    night.tells("redis-unreachable", "firing", "resolved")
    eventually(lambda: night.redis.xlen(keys.EPISODES) == 2, what="the history")


def test_a_sink_that_fails_gets_it_later_and_in_order(begin: Callable[..., Night]) -> None:
    night = begin()
    night.sink.answers = [status(500), status(429, Retry_After="1"), status(200)]
    night.check()
    night.fill()
    eventually(lambda: len(night.sink.requests) >= 2, what="the second try", within_s=15)
    night.drain()
    night.tells("deep", "firing", "resolved")
    kinds = [message["kind"] for message in night.messages()]
    assert kinds == ["firing", "firing", "firing", "resolved"]
    assert len({message["id"] for message in night.messages()[:3]}) == 1
