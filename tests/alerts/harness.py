"""Alerting on a real Redis with samples made by hand, and a channel that records its messages."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from dashboard.actions.pauses import PauseLog
from dashboard.alerts.delivery.channels.base import Channel, DeliveryResult, Message
from dashboard.alerts.delivery.message import PageLinks
from dashboard.alerts.delivery.outbox import Outbox
from dashboard.alerts.delivery.outbox_claims import OutboxClaims
from dashboard.alerts.delivery.sender import NotificationSender
from dashboard.alerts.delivery.transport.deadline import Deadline
from dashboard.alerts.engine import AlertEngine
from dashboard.alerts.rules.ruleset import Ruleset
from dashboard.alerts.store import AlertStore
from dashboard.model import QueueStats, Snapshot, SourceStats
from dashboard.sampling.recent_history import History
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.settings import QueueSettings
from dashboard.settings.queue_directory import QueueDirectory
from dashboard.sources.source import Source
from tests.unit.alerts.factories import sample

INTERVAL_S = 2.0
SHIPPED_OFF = [
    {"id": name, "enabled": False}
    for name in (
        *("redis-unreachable", "redis-writes-refused", "redis-memory", "redis-memory-full", "redis-evictions"),
        *("redis-eviction-policy", "redis-rejected", "redis-clients", "redis-fragmentation", "redis-replica-lag"),
        *(
            "redis-replica-link",
            "redis-sentinels",
            "redis-persistence",
            "no-data",
            "queue-no-consumers",
            "workers-gone",
        ),
        *("queue-latency", "queue-no-progress", "queue-errors", "queue-dead", "queue-dead-growth"),
        *("queue-active-age", "queue-stalled", "queue-overdue", "queue-paused", "checker-slow"),
        *("notify-undelivered", "notify-dead"),
    )
]
DEEP: dict[str, Any] = {
    "id": "deep",
    "metric": "queue.depth",
    "critical": 10,
    "for_s": 0,
    "min_samples": 1,
    "recover_for_s": 0,
    "new_instance_grace_s": 0,
    "group_wait_s": 0,
    "repeat_every_s": 0,
}


class Recorder(Channel):
    """Gives the results of `answers` in turn and then succeeds; records each message."""

    kind = "recorder"

    def __init__(self, name: str = "ops", answers: Iterable[DeliveryResult] = (), *, groups: bool = True) -> None:
        self.id = name
        self.can_group = groups  # type: ignore[misc]
        self.answers = list(answers)
        self.given: list[Message] = []
        self.arrived: list[Message] = []
        self.gate: threading.Event | None = None  # if given, every attempt waits for it
        self._lock = threading.Lock()

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        with self._lock:
            self.given.append(message)
            answer = self.answers.pop(0) if self.answers else DeliveryResult(ok=True, status="200")
        if self.gate is not None:
            self.gate.wait(deadline.remaining_s())
        if answer.ok:
            with self._lock:
                self.arrived.append(message)
        return answer

    @property
    def kinds(self) -> list[str]:
        return [message.kind for message in self.arrived]


class Process:
    """Alerting of one process without its threads: the test decides when it evaluates and when it delivers."""

    def __init__(
        self,
        url: str,
        holder: str,
        channels: Iterable[Recorder] = (),
        rules: Iterable[dict[str, Any]] = (DEEP,),
        queues: Iterable[QueueSettings] = (),
    ) -> None:
        self.source = Source("main", url)
        self.store = SnapshotStore(self.source)
        self.holder = holder
        self.channels = {channel.id: channel for channel in channels}
        self.outbox = Outbox(self.store)
        self.claims = OutboxClaims(self.store)
        self.alerts = AlertStore(self.store)
        self.notifier = NotificationSender(self.claims, self.channels, PageLinks("https://queues.example"))
        own = {rule["id"] for rule in rules}
        ruleset = Ruleset([*(rule for rule in SHIPPED_OFF if rule["id"] not in own), *rules], INTERVAL_S)
        self.ruleset = ruleset
        self.directory = QueueDirectory(queues)
        self.restart()

    def restart(self) -> None:
        """Drop all states held in memory."""
        channels, tidy, pauses = tuple(self.channels), self.outbox.maintain, PauseLog(self.store)
        self.engine = AlertEngine(
            self.alerts,
            self.ruleset,
            INTERVAL_S,
            self.holder,
            channels,
            tidy=tidy,
            pauses=pauses,
            directory=self.directory,
        )

    def lease(self, lease_s: float = 15.0) -> int | None:
        return self.store.acquire_lease(self.holder, lease_s).epoch

    def evaluate(self, snapshot: Snapshot, epoch: int | None = None, history: History | None = None) -> bool:
        epoch = epoch or self.lease()
        assert epoch is not None
        return self.engine.evaluate_as_leader(epoch, snapshot, history or History())

    def deliver(self) -> int:
        """Send all due messages; the number handled."""
        handled = 0
        for channel in self.channels.values():
            while self.notifier.deliver_one(channel):
                handled += 1
        return handled

    def close(self) -> None:
        self.source.close()


def deep(*depths: int, sources: Iterable[SourceStats] = ()) -> Snapshot:
    """A sample of queues q0, q1, … with these depths."""
    queues = [
        QueueStats(source="main", backend="lists", name=f"q{index}", key=f"q{index}", depth=depth)
        for index, depth in enumerate(depths)
    ]
    return sample(queues, sources)
