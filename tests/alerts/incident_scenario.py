"""A night: a real Redis, a real HTTP sink, and processes that check, as many and as they run in earnest."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from rq import Queue

from dashboard.alerts import keys
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.store.redis_store import LEAD
from tests.alerts.channels.fake_providers import HttpSink
from tests.processes import ROOT, Child, start
from tests.waiting import wait_until

INTERVAL_S = 0.5
QUICK: dict[str, Any] = {"for_s": 1, "group_wait_s": 0, "recover_for_s": 0.5}
DEEP: dict[str, Any] = {"metric": "queue.depth", "critical": 10, **QUICK, "new_instance_grace_s": 0}
# Told by the second tick in turn that fails: each waits for its time-outs.
UNREACHABLE: dict[str, Any] = {**QUICK, "for_s": 0, "critical": 0.5}
OFF = ("queue-no-consumers", "workers-gone", "checker-slow", "redis-memory", "redis-memory-full")


class Night:
    """A Redis, a sink, and as many checkers as are wanted."""

    def __init__(self, server: EmbeddedRedis, sink: HttpSink, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.sink = sink
        self.folder = folder
        self.stack = stack
        self.redis = redis.Redis.from_url(server.url)
        stack.callback(self.redis.close)
        self.checkers: list[Child] = []
        self.lines: list[str] = []  # of the configuration, after all others

    def configure(self, rules: dict[str, dict[str, Any]] | None = None, **deep: Any) -> Path:
        """The configuration: quick rules, those of `rules` by id, and `deep` = fields of the rule on depth."""
        wanted: dict[str, dict[str, Any]] = {
            "deep": {**DEEP, **deep},
            "redis-writes-refused": QUICK,
            "redis-unreachable": UNREACHABLE,
            **{name: {"enabled": False} for name in OFF},
            **(rules or {}),
        }
        lines = [
            *(f"sample_interval_s = {INTERVAL_S}", "allow_private_webhooks = true"),
            *(f'redis_url = "{self.server.url}"', f'spool_dir = "{self.folder / "spool"}"'),
            *("[[channels]]", 'id = "ops"', 'kind = "webhook"', f'url = "{self.sink.url}"'),
        ]
        for name, fields in wanted.items():
            lines += ["[[rules]]", f'id = "{name}"']
            lines += [f"{field} = {json.dumps(value)}" for field, value in fields.items()]
        config = self.folder / "queuedeck.toml"
        config.write_text("\n".join([*lines, *self.lines]))
        return config

    def check(self, rules: dict[str, dict[str, Any]] | None = None, **deep: Any) -> Child:
        """A started checker that has made its first tick, and knows the queue."""
        if not self.checkers:
            self.drain()
        config = self.configure(rules, **deep)
        process = self.begin(["-m", "dashboard.cli", "checker", "--config", str(config)])
        self.checkers.append(process)
        wait_until(lambda: self.heart(), what="the first tick")
        return process

    def begin(self, command: Sequence[str], **environ: str) -> Child:
        """A process of Python, ended at dawn."""
        process = start([sys.executable, *command], name="night", environ={"PYTHONPATH": str(ROOT), **environ})
        self.stack.callback(ended, process)
        return process

    def heart(self) -> dict[bytes, bytes]:
        """The heartbeat of whoever leads; {} when there is none, or no Redis to tell it."""
        try:
            found: dict[bytes, bytes] = self.redis.hgetall(keys.HEARTBEAT)
        except redis.RedisError:
            return {}
        return found

    def holder(self) -> int | None:
        """The pid of the process whose tick was the last, from the name it leads by."""
        parts = self.heart().get(b"holder", b"").decode().split("-")
        return int(parts[-2]) if len(parts) >= 3 else None

    def leader(self) -> Child:
        """The checker that leads."""
        pids = {process.pid: process for process in self.checkers}
        found: Child = wait_until(lambda: pids.get(self.holder() or 0), what="a leader")
        return found

    def as_when_the_lease_ran_out(self) -> None:
        """Nobody leads, fifteen seconds earlier than it would be."""
        self.redis.delete(LEAD)

    def fill(self, jobs: int = 20) -> None:
        """Jobs that wait, more than the rule on depth lets."""
        queue = Queue("mail", connection=self.redis)
        for _ in range(jobs):
            queue.enqueue("os.getpid")

    def drain(self) -> None:
        """No job waits; the queue is empty, and not gone."""
        self.redis.delete("rq:queue:mail")
        self.redis.sadd("rq:queues", "rq:queue:mail")

    def messages(self) -> list[dict[str, Any]]:
        """All that the sink was given, in the order of arrival."""
        return [request.json() for request in self.sink.requests]

    def told(self, rule: str = "deep") -> list[str]:
        """The kinds that arrived of a rule, each id once, in the order of arrival."""
        seen: dict[str, str] = {}
        for message in self.messages():
            if message["rule_id"] == rule:
                seen.setdefault(message["id"], message["kind"])
        return list(seen.values())

    def tells(self, rule: str, *kinds: str) -> None:
        """Returns when exactly these kinds have arrived of a rule."""
        wait_until(lambda: self.told(rule) == list(kinds), what=f"{rule} {kinds}")

    def noted(self) -> None:
        """Returns when the outbox knows of all that arrived: whoever dies before that leaves a message to be sent again
        a minute later, and all that follows it has to wait."""
        wait_until(lambda: not self.redis.zcard(keys.UNSENT), what="the end of the send")


def ended(process: Child) -> None:
    """End a process that may be stopped."""
    process.send(signal.SIGCONT)
    process.stop()
