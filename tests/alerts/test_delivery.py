"""Delivery under a sink that does what it likes, by several processes of which some die within a send."""

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


class Moody(Channel):
    """Takes a message, or not, or takes it and says that it did not; what it took is noted in its order."""

    kind = "moody"

    def __init__(self, seed: int) -> None:
        self.id = "ops"
        self.can_group = seed % 2 == 0  # type: ignore[misc]
        self.dice = random.Random(seed)
        self.calm = False
        self.took: list[Message] = []
        self._lock = threading.Lock()

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        with self._lock:
            mood = 1.0 if self.calm else self.dice.random()
            if mood < 0.3:
                return DeliveryResult(ok=False, status="500")
            self.took.append(message)
            if mood < 0.45:
                return DeliveryResult(ok=False, status="reset")  # it arrived, and nobody knows
            return DeliveryResult(ok=True, status="200")


def die_within_a_send(process: Process, channel: Moody) -> None:
    """As a process that is killed after the provider took the message, before it could say so."""
    claim = process.claims.claim_next("ops", "dead", groups=channel.can_group, spacing_s=0)
    if claim is not None and channel.dice.random() < 0.5:
        from dashboard.alerts.delivery.message import PageLinks, build_message

        notifications = [member.notification for member in claim.members]
        channel.took.append(build_message(claim.id, claim.kind, notifications, PageLinks(None), "ops"))


@pytest.mark.parametrize("seed", range(6))
def test_none_is_lost_none_out_of_order_and_doubles_have_one_id(
    make_process: Callable[..., Process], any_redis: redis.Redis, seed: int
) -> None:
    dice = random.Random(seed)
    channel = Moody(seed)
    processes = [make_process(f"p{index}", channel) for index in range(3)]  # type: ignore[arg-type]
    depths = [0] * QUEUES
    for _ in range(ROUNDS):
        for index in range(QUEUES):
            if dice.random() < 0.06:
                depths[index] = 0 if depths[index] else 50
        if dice.random() < 0.2:
            any_redis.delete(LEAD)  # another one leads from now on
        leader = dice.choice(processes) if not any_redis.exists(LEAD) else None
        leader = leader or next(p for p in processes if any_redis.get(LEAD).decode().startswith(p.holder))
        assert leader.evaluate(deep(*depths))
        threads = [threading.Thread(target=process.deliver) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if dice.random() < 0.3:
            die_within_a_send(dice.choice(processes), channel)
        if dice.random() < 0.5:
            make_due(any_redis)
    channel.calm = True
    while any_redis.zcard(keys.UNSENT):
        make_due(any_redis)
        processes[0].deliver()
    assert not any_redis.keys(f"{PREFIX}:chain:*")
    assert not any_redis.keys(f"{PREFIX}:due:*")
    check_order(channel.took)
    check_complete(channel.took, any_redis)


def check_order(took: list[Message]) -> None:
    """Of each queue: a new episode only after the end of the last, and only whole messages twice."""
    seen: dict[str, Message] = {}
    open_: dict[str, bool] = defaultdict(bool)
    for message in took:
        if message.id in seen:
            assert seen[message.id] == message
            continue
        seen[message.id] = message
        for line in message.lines:
            if message.kind == "firing":
                assert not open_[line.label]
                open_[line.label] = True
            elif message.kind == "resolved":
                assert open_[line.label]
                open_[line.label] = False
            elif message.kind == "both":
                assert not open_[line.label]


def check_complete(took: list[Message], client: redis.Redis) -> None:
    """As many beginnings and ends were told as the history holds, those apart that a flapping queue keeps to itself."""
    told = {(message.id, line.label): message.kind for message in took for line in message.lines}
    for row in client.xrange(keys.SENT):
        assert b'"outcome":"dead"' not in row[1][b"e"]
    assert told
    kinds = list(told.values())
    began = kinds.count("firing") + kinds.count("both")
    ended = kinds.count("resolved") + kinds.count("both")
    flapping = kinds.count("flapping")
    assert began >= ended - flapping
    messages = client.keys(f"{PREFIX}:msg:*")
    states = {client.hget(name, "state") for name in messages}
    assert states == {b"sent"}
    made = sum(1 for name in messages if client.hget(name, "kind") in (b"firing", b"resolved"))
    assert made == began + ended
