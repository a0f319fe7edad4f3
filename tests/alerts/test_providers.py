"""From a breach to a real provider that answers in every way there is, HTTP and mail: later, never, or nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from dashboard.alerts.channels.base import make
from tests.alerts.channels import sinks
from tests.alerts.channels.conftest import sink, smtp_sink  # noqa: F401
from tests.alerts.channels.sinks import SOON_S, HttpSink, at_most, status
from tests.alerts.channels.smtp import SmtpSink
from tests.alerts.rig import DEEP, Process, Recorder, deep
from tests.alerts.test_outbox import hurry

Make = Callable[..., Process]
RULE = {**DEEP, "channels": ["ops"], "fallback_channel": "chief"}
# For an answer that never ends; the request must get there within it.
SHORT_S = 1.5
ENDLESS = (sinks.hang, sinks.drip_header, sinks.drip_body, "hang")


def begins(make_process: Make, ops: Any, answer: object = None) -> tuple[Process, Recorder]:
    """A breach was seen, and one attempt made to tell it, which got that answer."""
    chief = Recorder("chief")
    process = make_process("one", ops, chief, rules=[RULE])
    process.tick(deep(50))
    with pytest.MonkeyPatch.context() as patched:
        if answer in ENDLESS:
            patched.setattr("dashboard.alerts.notify.DEADLINE_S", SHORT_S)
        with at_most(SOON_S):
            process.deliver()
    return process, chief


def tried_again_and_ended(process: Process, chief: Recorder, client: redis.Redis) -> None:
    """The provider came to its senses, and then the breach ended."""
    assert process.alerts.look().unsent
    hurry(client)
    process.deliver()
    process.tick(deep(0))
    process.deliver()
    assert not process.alerts.look().unsent
    assert process.alerts.look().dead == {}
    assert chief.given == []


def hook(server: HttpSink) -> Any:
    return make({"id": "ops", "kind": "webhook", "url": server.url}, allow_private=True)


def post(server: SmtpSink) -> Any:
    table = {"id": "ops", "kind": "email", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    return make({**table, "from": "deck@example.com", "to": ["ops@example.com"]})


@pytest.mark.parametrize(
    "answer",
    [
        *(status(500), status(503), status(408), status(429, Retry_After="60")),
        *(sinks.reset, sinks.garbage, sinks.hang, sinks.drip_header, sinks.drip_body),
    ],
    ids=["500", "503", "408", "429", "reset", "garbage", "hang", "drip_header", "drip_body"],
)
def test_what_http_did_not_take_is_sent_again_under_its_id(
    make_process: Make,
    sink: HttpSink,  # noqa: F811
    any_redis: redis.Redis,
    answer: Callable[[Any], None],
) -> None:
    sink.answers = [answer, status(200)]
    process, chief = begins(make_process, hook(sink), answer)
    tried_again_and_ended(process, chief, any_redis)
    sent = [request.json() for request in sink.requests]
    assert [message["kind"] for message in sent] == ["firing", "firing", "resolved"]
    assert sent[0] == sent[1]
    names = [request.headers["Idempotency-Key"] for request in sink.requests]
    assert names == [message["id"] for message in sent]


@pytest.mark.parametrize("code", [301, 302, 307, 400, 401, 404, 410])
def test_what_http_refuses_for_good_is_given_up_and_told_elsewhere(
    make_process: Make,
    sink: HttpSink,  # noqa: F811
    any_redis: redis.Redis,
    code: int,
) -> None:
    sink.answers = [status(code, Location=sink.url)]
    process, chief = begins(make_process, hook(sink))
    assert process.alerts.look().dead == {"ops": 1}
    assert chief.kinds == ["firing"]
    hurry(any_redis)
    process.deliver()
    assert len(sink.requests) == 1


@pytest.mark.parametrize("answer", ["451 try later", "421 going down", "hang"])
def test_what_mail_did_not_take_is_sent_again_under_its_id(
    make_process: Make,
    smtp_sink: Callable[..., SmtpSink],  # noqa: F811
    any_redis: redis.Redis,
    answer: str,
) -> None:
    server = smtp_sink(data=answer)
    process, chief = begins(make_process, post(server), answer)
    server.data = "250 queued"
    tried_again_and_ended(process, chief, any_redis)
    first, again, end = server.mails
    assert first["Message-ID"] == again["Message-ID"] != end["Message-ID"]
    assert end["References"] == first["Message-ID"]


def test_what_mail_refuses_for_good_is_given_up_and_told_elsewhere(
    make_process: Make,
    smtp_sink: Callable[..., SmtpSink],  # noqa: F811
    any_redis: redis.Redis,
) -> None:
    server = smtp_sink(data="550 no such thing")
    process, chief = begins(make_process, post(server))
    assert process.alerts.look().dead == {"ops": 1}
    assert chief.kinds == ["firing"]
    hurry(any_redis)
    process.deliver()
    assert len(server.mails) == 1
