"""With many alerts of one rule, resolved messages name exactly those that a receiver was notified of by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from dashboard.alerts.delivery.channels.base import KINDS, Channel, DeliveryResult, build_channel
from dashboard.demo.embedded import EmbeddedRedis
from tests.alerts.channels.fake_providers import HttpSink
from tests.alerts.channels.smtp import SmtpSink
from tests.alerts.harness import DEEP, Process, Recorder, deep
from tests.waiting import wait_until

# PagerDuty gets one message per episode; Apprise sends the plain text to a service of its own.
NAMING = [kind for kind in KINDS if kind not in ("pagerduty", "apprise")]
QUEUE = re.compile(r"\bq(\d+) \\*\(lists")


def deliver(process: Process) -> None:
    """Deliver all due messages, without the pauses between messages of a provider."""
    process.source.execute("DEL", "{queuedeck}:pace:ops")
    while process.deliver():
        process.source.execute("DEL", "{queuedeck}:pace:ops")


class Receiver:
    """One channel with the server behind it, and the queues that each message named."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        self.kind = kind
        if kind == "email":
            self.mails = SmtpSink()
            stack.callback(self.mails.close)
            people = {"from": "Queuedeck <deck@example.com>", "to": ["a@example.com"]}
            settings: dict[str, Any] = {"host": "127.0.0.1", "port": self.mails.port, "tls": "none", **people}
        else:
            self.hooks = HttpSink()
            stack.callback(self.hooks.close)
            settings = {"url": self.hooks.url}
        self.channel: Channel = build_channel({"id": "ops", "kind": kind, **settings}, allow_private=True)

    def texts(self) -> list[str]:
        if self.kind == "email":
            return [mail.get_body(("plain",)).get_content() for mail in self.mails.mails]
        return [request.body.decode() for request in self.hooks.requests]

    def take(self) -> list[set[int]]:
        """The queues named in each message since the last call."""
        found = [{int(number) for number in QUEUE.findall(text)} for text in self.texts()]
        if self.kind == "email":
            self.mails.mails.clear()
        else:
            self.hooks.requests.clear()
        return found


@pytest.fixture
def receive() -> Iterator[Callable[[str], Receiver]]:
    with ExitStack() as stack:
        yield lambda kind: Receiver(kind, stack)


@pytest.fixture
def process(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def start(channel: Channel, **rule: Any) -> Process:
        made.append(Process(any_server.url, "one", (channel,), rules=[{**DEEP, **rule}]))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("count", [30, 55, 120])
def test_resolving_all_alerts_at_once_names_exactly_the_notified_ones(
    receive: Callable[[str], Receiver], process: Callable[..., Process], kind: str, count: int
) -> None:
    """q0 is the worst by value, the last queue by peak."""
    receiver = receive(kind)
    sender = process(receiver.channel)
    sender.evaluate(deep(*(1000 - n for n in range(count))))
    deliver(sender)
    (named,) = receiver.take()
    assert len(named) == min(count, receiver.channel.max_lines)
    assert 0 in named
    sender.evaluate(deep(*(1000 + 100 * n for n in range(count))))
    sender.evaluate(deep(*(0 for _ in range(count))))
    deliver(sender)
    assert set().union(*receiver.take()) == named
    assert list(sender.source.run_batch([("KEYS", "{queuedeck}:unnamed:*")])[0]) == []


@pytest.mark.parametrize("kind", ["slack", "webhook"])
def test_resolving_alerts_in_turn_names_exactly_the_notified_ones(
    receive: Callable[[str], Receiver], process: Callable[..., Process], kind: str
) -> None:
    receiver = receive(kind)
    sender = process(receiver.channel)
    depths = [1000 - n for n in range(120)]
    sender.evaluate(deep(*depths))
    deliver(sender)
    (named,) = receiver.take()
    for start in (90, 60, 30, 0):
        depths[start:] = [0] * (120 - start)
        sender.evaluate(deep(*depths))
        deliver(sender)
        assert set().union(*receiver.take()) == {n for n in named if start <= n < start + 30}


def test_two_groups_that_resolve_together_are_named_in_full(
    receive: Callable[[str], Receiver], process: Callable[..., Process]
) -> None:
    receiver = receive("slack")
    sender = process(receiver.channel)
    sender.evaluate(deep(*([100] * 30 + [0] * 30)))
    deliver(sender)
    sender.evaluate(deep(*([100] * 60)))
    deliver(sender)
    named = set().union(*receiver.take())
    assert len(named) == 40
    sender.evaluate(deep(*([0] * 60)))
    deliver(sender)
    ends = receiver.take()
    assert set().union(*ends) == named
    assert sum(map(len, ends)) == 40


def test_a_reminder_names_alerts_that_the_firing_message_left_out(
    receive: Callable[[str], Receiver], process: Callable[..., Process]
) -> None:
    receiver = receive("slack")
    sender = process(receiver.channel, repeat_every_s=1)
    depths = [1000 - n for n in range(30)]
    sender.evaluate(deep(*depths))
    deliver(sender)
    assert receiver.take() == [set(range(20))]
    depths[:15] = [0] * 15
    sender.evaluate(deep(*depths))
    deliver(sender)
    assert receiver.take() == [set(range(15))]
    reminded: list[set[int]] = []

    def remind() -> bool:
        sender.evaluate(deep(*depths))
        deliver(sender)
        reminded.extend(receiver.take())
        return bool(reminded)

    wait_until(remind, what="the reminder")
    assert set().union(*reminded) == set(range(15, 30))
    sender.evaluate(deep(*([0] * 30)))
    deliver(sender)
    assert set().union(*receiver.take()) == set(range(15, 30))


def test_the_fallback_names_only_alerts_it_was_notified_of(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    """One group fired on the channel, another on its fallback channel after a refusal; both resolve together."""
    ops, phone = Recorder("ops"), Recorder("phone")
    rule = {**DEEP, "channels": ["ops"], "fallback_channel": "phone"}
    process = Process(any_server.url, "one", (ops, phone), rules=[rule])
    try:
        process.evaluate(deep(100, 0))
        process.deliver()
        ops.answers = [DeliveryResult(ok=False, status="410", permanent=True)]
        process.evaluate(deep(100, 100))
        process.deliver()
        process.evaluate(deep(0, 0))
        process.deliver()
        assert [[line.label for line in message.lines] for message in ops.arrived[-1:]] == [["q0 (lists, main)"]]
        assert [message.kind for message in phone.arrived] == ["firing", "resolved"]
        assert [line.label for line in phone.arrived[-1].lines] == ["q1 (lists, main)"]
    finally:
        process.close()
