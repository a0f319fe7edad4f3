"""Of many alerts of one rule at once: the ends name every episode that a receiver was told of by name, and no other."""

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
    """All that is due, without the pauses that a provider wants."""
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
def test_all_incidents_end_together(
    receive: Callable[[str], Receiver], process: Callable[..., Process], kind: str, count: int
) -> None:
    """By value q0 is the worst, by peak the last one."""
    receiver = receive(kind)
    one = process(receiver.channel)
    one.evaluate(deep(*(1000 - n for n in range(count))))
    deliver(one)
    (begun,) = receiver.take()
    assert len(begun) == min(count, receiver.channel.max_lines)
    assert 0 in begun
    one.evaluate(deep(*(1000 + 100 * n for n in range(count))))
    one.evaluate(deep(*(0 for _ in range(count))))
    deliver(one)
    assert set().union(*receiver.take()) == begun
    assert list(one.source.run_batch([("KEYS", "{queuedeck}:unnamed:*")])[0]) == []


@pytest.mark.parametrize("kind", ["slack", "webhook"])
def test_they_end_one_after_the_other(
    receive: Callable[[str], Receiver], process: Callable[..., Process], kind: str
) -> None:
    receiver = receive(kind)
    one = process(receiver.channel)
    depths = [1000 - n for n in range(120)]
    one.evaluate(deep(*depths))
    deliver(one)
    (begun,) = receiver.take()
    for start in (90, 60, 30, 0):
        depths[start:] = [0] * (120 - start)
        one.evaluate(deep(*depths))
        deliver(one)
        assert set().union(*receiver.take()) == {n for n in begun if start <= n < start + 30}


def test_two_groups_that_end_together_are_named_whole(
    receive: Callable[[str], Receiver], process: Callable[..., Process]
) -> None:
    receiver = receive("slack")
    one = process(receiver.channel)
    one.evaluate(deep(*([100] * 30 + [0] * 30)))
    deliver(one)
    one.evaluate(deep(*([100] * 60)))
    deliver(one)
    begun = set().union(*receiver.take())
    assert len(begun) == 40
    one.evaluate(deep(*([0] * 60)))
    deliver(one)
    ends = receiver.take()
    assert set().union(*ends) == begun
    assert sum(map(len, ends)) == 40


def test_a_reminder_names_what_the_beginning_did_not(
    receive: Callable[[str], Receiver], process: Callable[..., Process]
) -> None:
    receiver = receive("slack")
    one = process(receiver.channel, repeat_every_s=1)
    depths = [1000 - n for n in range(30)]
    one.evaluate(deep(*depths))
    deliver(one)
    assert receiver.take() == [set(range(20))]
    depths[:15] = [0] * 15
    one.evaluate(deep(*depths))
    deliver(one)
    assert receiver.take() == [set(range(15))]
    reminded: list[set[int]] = []

    def remind() -> bool:
        one.evaluate(deep(*depths))
        deliver(one)
        reminded.extend(receiver.take())
        return bool(reminded)

    wait_until(remind, what="the reminder")
    assert set().union(*reminded) == set(range(15, 30))
    one.evaluate(deep(*([0] * 30)))
    deliver(one)
    assert set().union(*receiver.take()) == set(range(15, 30))


def test_the_fallback_names_only_alerts_it_was_notified_of(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    """One group began on the channel, another on its fallback since the channel refused it; both end together."""
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
