"""Real checkers as processes of their own, a real Redis and a real HTTP sink, and what happens at night."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue

from dashboard.alerts import keys
from dashboard.collect.store import LEAD
from dashboard.demo.embedded import EmbeddedRedis, die_with_parent
from tests.alerts.channels.sinks import HttpSink, status
from tests.alerts.rig import eventually
from tests.conftest import SERVERS, start_server
from tests.serving import ROOT

INTERVAL_S = 0.5


class Night:
    """A Redis, a sink, and as many checkers as are wanted."""

    def __init__(self, server: EmbeddedRedis, sink: HttpSink, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.sink = sink
        self.folder = folder
        self._stack = stack
        self.redis = redis.Redis.from_url(server.url)
        stack.callback(self.redis.close)
        self.checkers: list[subprocess.Popen[bytes]] = []

    def check(self, **fields: Any) -> subprocess.Popen[bytes]:
        """A started checker."""
        config = self.folder / "queuedeck.toml"
        rule = {"critical": 10, "for_s": 1, "recover_for_s": 0.5, "new_instance_grace_s": 0, "group_wait_s": 0}
        quick = {"for_s": 1, "group_wait_s": 0, "recover_for_s": 0.5}
        lines = [
            *(f"sample_interval_s = {INTERVAL_S}", "allow_private_webhooks = true"),
            *(f'redis_url = "{self.server.url}"', f'spool_dir = "{self.folder / "spool"}"'),
            *("[[channels]]", 'id = "ops"', 'kind = "webhook"', f'url = "{self.sink.url}"'),
            *("[[rules]]", 'id = "deep"', 'metric = "queue.depth"', *pairs({**rule, **fields})),
            *("[[rules]]", 'id = "redis-writes-refused"', *pairs(quick)),
            *("[[rules]]", 'id = "redis-unreachable"', *pairs({**quick, "critical": 2})),
            *("[[rules]]", 'id = "queue-no-consumers"', "enabled = false"),
            *("[[rules]]", 'id = "workers-gone"', "enabled = false"),
            *("[[rules]]", 'id = "checker-slow"', "enabled = false"),
            *("[[rules]]", 'id = "redis-memory"', "enabled = false"),
        ]
        config.write_text("\n".join(lines))
        log = self._stack.enter_context((self.folder / f"checker-{len(self.checkers)}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.cli", "checker", "--config", str(config)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=die_with_parent(),
        )
        self._stack.callback(ended, process)
        self.checkers.append(process)
        eventually(lambda: self.heart(), what="the first tick", within_s=20)
        return process

    def heart(self) -> dict[bytes, bytes]:
        try:
            found: dict[bytes, bytes] = self.redis.hgetall(keys.HEARTBEAT)
        except redis.RedisError:
            return {}
        return found

    def leader(self) -> subprocess.Popen[bytes]:
        """The process that leads, by the pid in its name."""
        pids = {process.pid: process for process in self.checkers}

        def found() -> subprocess.Popen[bytes] | None:
            holder = self.heart().get(b"holder", b"").decode().split("-")
            return pids.get(int(holder[-2])) if len(holder) >= 3 else None

        leader: subprocess.Popen[bytes] = eventually(found, what="a leader")
        return leader

    def fill(self, jobs: int = 20) -> None:
        queue = Queue("mail", connection=self.redis)
        for _ in range(jobs):
            queue.enqueue("os.getpid")

    def drain(self) -> None:
        self.redis.delete("rq:queue:mail")

    def messages(self) -> list[dict[str, Any]]:
        return [request.json() for request in self.sink.requests]

    def told(self, rule: str = "deep") -> list[str]:
        """The kinds that arrived of a rule, each id once, in the order of arrival."""
        seen: dict[str, str] = {}
        for message in self.messages():
            if message["rule_id"] == rule:
                seen.setdefault(message["id"], message["kind"])
        return list(seen.values())

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self.folder.glob("*.log"))


def pairs(fields: dict[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in fields.items()]


def ended(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Night]]:
    with ExitStack() as stack:

        def make(name: str = "redis-7", *options: str) -> Night:
            server = start_server(name, *options)
            stack.callback(server.close)
            sink = HttpSink()
            stack.callback(sink.close)
            return Night(server, sink, tmp_path, stack)

        yield make


def as_when_the_lease_ran_out(night: Night) -> None:
    night.redis.delete(LEAD)


def test_leaders_that_stop_and_die_make_one_alert_of_one_incident(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.check()
    asleep = night.leader()
    night.fill()
    eventually(lambda: night.told() == ["firing"], what="the alert")
    asleep.send_signal(signal.SIGSTOP)
    as_when_the_lease_ran_out(night)
    eventually(lambda: night.leader() is not asleep, what="another leader", within_s=20)
    asleep.send_signal(signal.SIGCONT)
    killed = night.leader()
    killed.kill()
    killed.wait(10)
    as_when_the_lease_ran_out(night)
    eventually(lambda: night.leader() is asleep, what="the first leader again", within_s=20)
    night.drain()
    eventually(lambda: night.told() == ["firing", "resolved"], what="the end", within_s=20)
    assert len({message["episode"] for message in night.messages()}) == 1
    assert len({message["id"] for message in night.messages()}) == 2


def test_a_redis_that_is_killed_and_comes_back_empty_loses_no_end(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check(recover_for_s=0)
    night.fill()
    eventually(lambda: night.told() == ["firing"], what="the alert")
    night.server.stop(kill=True)
    night.server.start()
    night.fill()
    eventually(lambda: night.heart() and night.redis.scard(keys.LIVE), what="the states back", within_s=20)
    night.drain()
    night.redis.sadd("rq:queues", "rq:queue:mail")  # it is empty, and not gone
    eventually(lambda: night.told() == ["firing", "resolved"], what="the end", within_s=20)
    assert len({message["episode"] for message in night.messages()}) == 1


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_redis_that_is_full_is_told(begin: Callable[..., Night], name: str) -> None:
    night = begin(name)
    night.check()
    night.redis.config_set("maxmemory", 1)
    eventually(lambda: night.told("redis-writes-refused") == ["firing"], what="the alert", within_s=15)
    night.redis.config_set("maxmemory", 0)
    eventually(lambda: night.told("redis-writes-refused") == ["firing", "resolved"], what="the end", within_s=25)


def test_a_primary_that_becomes_a_replica_is_told(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    eventually(lambda: night.told("redis-writes-refused") == ["firing"], what="the alert", within_s=15)
    night.redis.execute_command("REPLICAOF", "NO", "ONE")
    eventually(lambda: night.told("redis-writes-refused") == ["firing", "resolved"], what="the end", within_s=25)


def test_a_redis_that_cannot_save_and_stops_taking_writes_is_told(begin: Callable[..., Night], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    night = begin("redis-7", "--dir", str(data))
    night.check()
    data.rmdir()
    night.redis.config_set("save", "1 1")
    eventually(lambda: night.redis.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")
    eventually(lambda: night.told("redis-writes-refused") == ["firing"], what="the alert", within_s=15)
    data.mkdir()
    night.redis.config_set("save", "")
    night.redis.config_set("stop-writes-on-bgsave-error", "no")
    eventually(lambda: night.told("redis-writes-refused") == ["firing", "resolved"], what="the end", within_s=25)


def test_a_redis_that_answers_nobody_is_told(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    assert night.server.pid is not None
    os.kill(night.server.pid, signal.SIGSTOP)
    try:
        eventually(lambda: night.told("redis-unreachable") == ["firing"], what="the alert", within_s=25)
    finally:
        os.kill(night.server.pid, signal.SIGCONT)
    eventually(lambda: night.told("redis-unreachable") == ["firing", "resolved"], what="the end", within_s=25)


def test_a_redis_that_is_gone_is_told_and_its_return_too(begin: Callable[..., Night]) -> None:
    night = begin()
    night.check()
    night.server.stop(kill=True)
    eventually(lambda: night.told("redis-unreachable") == ["firing"], what="the alert", within_s=20)
    night.server.start()
    eventually(lambda: night.told("redis-unreachable") == ["firing", "resolved"], what="the end", within_s=25)
    eventually(lambda: night.redis.xlen(keys.EPISODES) == 2, what="the history")


def test_a_sink_that_fails_gets_it_later_and_in_order(begin: Callable[..., Night]) -> None:
    night = begin()
    night.sink.answers = [status(500), status(429, Retry_After="1"), status(200)]
    night.check()
    night.fill()
    eventually(lambda: len(night.sink.requests) >= 2, what="the second try", within_s=15)
    night.drain()
    night.redis.sadd("rq:queues", "rq:queue:mail")
    eventually(lambda: night.told() == ["firing", "resolved"], what="the end", within_s=20)
    kinds = [message["kind"] for message in night.messages()]
    assert kinds == ["firing", "firing", "firing", "resolved"]
    assert len({message["id"] for message in night.messages()[:3]}) == 1
