"""From a breach to a real HTTP or mail provider: temporary, permanent and unknown failures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from dashboard.alerts.delivery.channels.base import build_channel
from dashboard.alerts.delivery.transport.deadline import Deadline
from tests.alerts.channels import fake_providers
from tests.alerts.channels.conftest import smtp_sink  # noqa: F401
from tests.alerts.channels.fake_providers import SOON_S, HttpSink, at_most, status
from tests.alerts.channels.smtp import SmtpSink
from tests.alerts.harness import DEEP, Process, Recorder, deep
from tests.alerts.test_outbox import make_due
from tests.conftest import usual_in_gate
from tests.waiting import wait_until

Make = Callable[..., Process]
RULE = {**DEEP, "channels": ["ops"], "fallback_channel": "chief"}
ENDLESS = (fake_providers.hang, fake_providers.drip_header, fake_providers.drip_body, "hang")


def fire_and_deliver_once(
    make_process: Make, ops: Any, server: HttpSink | SmtpSink, answer: object = None
) -> tuple[Process, Recorder]:
    """Fire an alert and attempt one delivery, which gets that answer."""
    chief = Recorder("chief")
    process = make_process("one", ops, chief, rules=[RULE])
    process.evaluate(deep(50))
    with ThreadPoolExecutor() as pool, pytest.MonkeyPatch.context() as patched:
        if answer in ENDLESS:
            deadlines: list[Deadline] = []
            enter = Deadline.__enter__
            patched.setattr("dashboard.alerts.delivery.sender.DEADLINE_S", fake_providers.HANGS_S)
            patched.setattr(Deadline, "__enter__", lambda deadline: deadlines.append(deadline) or enter(deadline))
            ended = pool.submit(time_out_after_arrival, server, deadlines)
        with at_most(SOON_S):
            process.deliver()
        if answer in ENDLESS:
            ended.result()
    return process, chief


def time_out_after_arrival(server: HttpSink | SmtpSink, deadlines: list[Deadline]) -> None:
    """End the deadline of an attempt as soon as the server has its message."""
    wait_until(lambda: server.requests if isinstance(server, HttpSink) else server.mails, what="the attempt")
    deadlines[0]._end = 0.0
    deadlines[0]._shut_down_sockets()


def check_retry_and_resolution(process: Process, chief: Recorder, client: redis.Redis) -> None:
    """The provider recovers, then the alert resolves."""
    assert process.alerts.read_inputs().unsent
    make_due(client)
    process.deliver()
    process.evaluate(deep(0))
    process.deliver()
    assert not process.alerts.read_inputs().unsent
    assert process.alerts.read_inputs().dead == {}
    assert chief.given == []


def hook(server: HttpSink) -> Any:
    return build_channel({"id": "ops", "kind": "webhook", "url": server.url}, allow_private=True)


def post(server: SmtpSink) -> Any:
    table = {"id": "ops", "kind": "email", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    return build_channel({**table, "from": "deck@example.com", "to": ["ops@example.com"]})


@usual_in_gate
@pytest.mark.parametrize(
    "answer",
    [
        *(status(500), status(503), status(408), status(429, Retry_After="60")),
        *(
            fake_providers.reset,
            fake_providers.garbage,
            fake_providers.hang,
            fake_providers.drip_header,
            fake_providers.drip_body,
        ),
    ],
    ids=["500", "503", "408", "429", "reset", "garbage", "hang", "drip_header", "drip_body"],
)
def test_a_failed_http_delivery_is_retried_with_the_same_id(
    make_process: Make,
    sink: HttpSink,
    any_redis: redis.Redis,
    answer: Callable[[Any], None],
) -> None:
    sink.answers = [answer, status(200)]
    process, chief = fire_and_deliver_once(make_process, hook(sink), sink, answer)
    check_retry_and_resolution(process, chief, any_redis)
    sent = [request.json() for request in sink.requests]
    assert [message["kind"] for message in sent] == ["firing", "firing", "resolved"]
    assert sent[0] == sent[1]
    names = [request.headers["Idempotency-Key"] for request in sink.requests]
    assert names == [message["id"] for message in sent]


@usual_in_gate
@pytest.mark.parametrize("code", [301, 302, 307, 400, 401, 404, 410])
def test_a_permanent_http_refusal_goes_to_the_fallback_channel(
    make_process: Make,
    sink: HttpSink,
    any_redis: redis.Redis,
    code: int,
) -> None:
    sink.answers = [status(code, Location=sink.url)]
    process, chief = fire_and_deliver_once(make_process, hook(sink), sink)
    assert process.alerts.read_inputs().dead == {"ops": 1}
    assert chief.kinds == ["firing"]
    make_due(any_redis)
    process.deliver()
    assert len(sink.requests) == 1


@usual_in_gate
@pytest.mark.parametrize("answer", ["451 try later", "421 going down", "hang"])
def test_a_failed_mail_delivery_is_retried_with_the_same_id(
    make_process: Make,
    smtp_sink: Callable[..., SmtpSink],  # noqa: F811
    any_redis: redis.Redis,
    answer: str,
) -> None:
    server = smtp_sink(data=answer)
    process, chief = fire_and_deliver_once(make_process, post(server), server, answer)
    server.data = "250 queued"
    check_retry_and_resolution(process, chief, any_redis)
    first, again, end = server.mails
    assert first["Message-ID"] == again["Message-ID"] != end["Message-ID"]
    assert end["References"] == first["Message-ID"]


@usual_in_gate
def test_a_permanent_mail_refusal_goes_to_the_fallback_channel(
    make_process: Make,
    smtp_sink: Callable[..., SmtpSink],  # noqa: F811
    any_redis: redis.Redis,
) -> None:
    server = smtp_sink(data="550 no such thing")
    process, chief = fire_and_deliver_once(make_process, post(server), server)
    assert process.alerts.read_inputs().dead == {"ops": 1}
    assert chief.kinds == ["firing"]
    make_due(any_redis)
    process.deliver()
    assert len(server.mails) == 1
