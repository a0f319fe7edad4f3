"""An incident on a real Redis, with a real HTTP receiver and any number of real checker processes."""

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
# Fires at the second failed evaluation in a row: each waits for its time-outs.
UNREACHABLE: dict[str, Any] = {**QUICK, "for_s": 0, "critical": 0.5}
OFF = ("queue-no-consumers", "workers-gone", "checker-slow", "redis-memory", "redis-memory-full")


class IncidentScenario:
    """A Redis, a receiver, and any number of checkers."""

    def __init__(self, server: EmbeddedRedis, sink: HttpSink, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.sink = sink
        self.folder = folder
        self.stack = stack
        self.redis = redis.Redis.from_url(server.url)
        stack.callback(self.redis.close)
        self.checkers: list[Child] = []
        self.lines: list[str] = []  # added to the end of the configuration

    def configure(self, rules: dict[str, dict[str, Any]] | None = None, **deep: Any) -> Path:
        """Write the configuration: quick rules, `rules` by id, and `deep` = fields of the rule on depth."""
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

    def start_checker(self, rules: dict[str, dict[str, Any]] | None = None, **deep: Any) -> Child:
        """Start a checker and wait for its first evaluation; it knows the queue."""
        if not self.checkers:
            self.drain()
        config = self.configure(rules, **deep)
        process = self.start_python(["-m", "dashboard.cli", "checker", "--config", str(config)])
        self.checkers.append(process)
        wait_until(lambda: self.heartbeat(), what="the first evaluation")
        return process

    def start_python(self, command: Sequence[str], **environ: str) -> Child:
        """Start a Python process, ended with the test."""
        process = start([sys.executable, *command], name="scenario", environ={"PYTHONPATH": str(ROOT), **environ})
        self.stack.callback(end_process, process)
        return process

    def heartbeat(self) -> dict[bytes, bytes]:
        """The heartbeat of the leader; {} without one, or without Redis."""
        try:
            found: dict[bytes, bytes] = self.redis.hgetall(keys.HEARTBEAT)
        except redis.RedisError:
            return {}
        return found

    def holder(self) -> int | None:
        """The pid of the process that evaluated last, from its holder name."""
        parts = self.heartbeat().get(b"holder", b"").decode().split("-")
        return int(parts[-2]) if len(parts) >= 3 else None

    def leader(self) -> Child:
        """The checker that leads."""
        pids = {process.pid: process for process in self.checkers}
        found: Child = wait_until(lambda: pids.get(self.holder() or 0), what="a leader")
        return found

    def expire_lease(self) -> None:
        """Remove the lease at once, fifteen seconds before it would expire."""
        self.redis.delete(LEAD)

    def fill(self, jobs: int = 20) -> None:
        """Add waiting jobs, more than the threshold of the rule on depth."""
        queue = Queue("mail", connection=self.redis)
        for _ in range(jobs):
            queue.enqueue("os.getpid")

    def drain(self) -> None:
        """Empty the queue, which still exists."""
        self.redis.delete("rq:queue:mail")
        self.redis.sadd("rq:queues", "rq:queue:mail")

    def messages(self) -> list[dict[str, Any]]:
        """All messages received, in the order of arrival."""
        return [request.json() for request in self.sink.requests]

    def kinds_received(self, rule: str = "deep") -> list[str]:
        """As `HttpSink.kinds_received`."""
        return self.sink.kinds_received(rule)

    def await_kinds(self, rule: str, *kinds: str) -> None:
        """Wait until exactly these kinds have arrived for a rule."""
        wait_until(lambda: self.kinds_received(rule) == list(kinds), what=f"{rule} {kinds}")

    def await_sent(self) -> None:
        """Wait until the outbox has recorded all messages as sent.

        If a process dies before that, a message is sent again a minute later, and all messages after it wait.
        """
        wait_until(lambda: not self.redis.zcard(keys.UNSENT), what="the end of the send")


def end_process(process: Child) -> None:
    """End a process that may be suspended."""
    process.send(signal.SIGCONT)
    process.stop()
