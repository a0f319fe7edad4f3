"""Delivery to an unreliable receiver by several processes, some of which die while sending."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable

import pytest
import redis

from dashboard.alerts import keys
from dashboard.alerts.delivery.channels.base import Channel, DeliveryResult, Message
from dashboard.alerts.delivery.transport.deadline import Deadline
from dashboard.store.redis_store import LEAD, PREFIX
from tests.alerts.harness import Process, deep
from tests.alerts.test_outbox import make_due

QUEUES = 12
ROUNDS = 60


class UnreliableChannel(Channel):
    """Accepts a message, refuses it, or accepts it and reports a failure; accepted messages are recorded in order."""

    kind = "unreliable"

    def __init__(self, seed: int) -> None:
        self.id = "ops"
        self.can_group = seed % 2 == 0  # type: ignore[misc]
        self.dice = random.Random(seed)
        self.reliable = False
        self.received: list[Message] = []
        self._lock = threading.Lock()

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        with self._lock:
            roll = 1.0 if self.reliable else self.dice.random()
            if roll < 0.3:
                return DeliveryResult(ok=False, status="500")
            self.received.append(message)
            if roll < 0.45:
                return DeliveryResult(ok=False, status="reset")  # it arrived, but the sender cannot know
            return DeliveryResult(ok=True, status="200")


def die_during_a_send(process: Process, channel: UnreliableChannel) -> None:
    """Like a process that is killed after the provider accepted the message and before recording it."""
    claim = process.claims.claim_next("ops", "dead", groups=channel.can_group, spacing_s=0)
    if claim is not None and channel.dice.random() < 0.5:
        from dashboard.alerts.delivery.message import PageLinks, build_message

        notifications = [member.notification for member in claim.members]
        channel.received.append(build_message(claim.id, claim.kind, notifications, PageLinks(None), "ops"))


@pytest.mark.parametrize("seed", range(6))
def test_no_message_is_lost_or_reordered_and_duplicates_share_an_id(
    make_process: Callable[..., Process], any_redis: redis.Redis, seed: int
) -> None:
    dice = random.Random(seed)
    channel = UnreliableChannel(seed)
    processes = [make_process(f"p{index}", channel) for index in range(3)]  # type: ignore[arg-type]
    depths = [0] * QUEUES
    for _ in range(ROUNDS):
        for index in range(QUEUES):
            if dice.random() < 0.06:
                depths[index] = 0 if depths[index] else 50
        if dice.random() < 0.2:
            any_redis.delete(LEAD)  # another process takes the lease
        leader = dice.choice(processes) if not any_redis.exists(LEAD) else None
        leader = leader or next(p for p in processes if any_redis.get(LEAD).decode().startswith(p.holder))
        assert leader.evaluate(deep(*depths))
        threads = [threading.Thread(target=process.deliver) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if dice.random() < 0.3:
            die_during_a_send(dice.choice(processes), channel)
        if dice.random() < 0.5:
            make_due(any_redis)
    channel.reliable = True
    while any_redis.zcard(keys.UNSENT):
        make_due(any_redis)
        processes[0].deliver()
    assert not any_redis.keys(f"{PREFIX}:chain:*")
    assert not any_redis.keys(f"{PREFIX}:due:*")
    check_order(channel.received)
    check_complete(channel.received, any_redis)


def check_order(received: list[Message]) -> None:
    """For each queue, an episode starts only after the last one ended, and duplicates are identical messages."""
    by_id: dict[str, Message] = {}
    open_: dict[str, bool] = defaultdict(bool)
    for message in received:
        if message.id in by_id:
            assert by_id[message.id] == message
            continue
        by_id[message.id] = message
        for line in message.lines:
            if message.kind == "firing":
                assert not open_[line.label]
                open_[line.label] = True
            elif message.kind == "resolved":
                assert open_[line.label]
                open_[line.label] = False
            elif message.kind == "both":
                assert not open_[line.label]


def check_complete(received: list[Message], client: redis.Redis) -> None:
    """All firing and resolved messages in the outbox were received; flapping ones account for the rest."""
    kinds_by_line = {(message.id, line.label): message.kind for message in received for line in message.lines}
    for row in client.xrange(keys.SENT):
        assert b'"outcome":"dead"' not in row[1][b"e"]
    assert kinds_by_line
    kinds = list(kinds_by_line.values())
    began = kinds.count("firing") + kinds.count("both")
    ended = kinds.count("resolved") + kinds.count("both")
    flapping = kinds.count("flapping")
    assert began >= ended - flapping
    messages = client.keys(f"{PREFIX}:msg:*")
    states = {client.hget(name, "state") for name in messages}
    assert states == {b"sent"}
    made = sum(1 for name in messages if client.hget(name, "kind") in (b"firing", b"resolved"))
    assert made == began + ended
