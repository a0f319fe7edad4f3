"""Webhooks to servers that respond correctly, wrongly, slowly or never; all HTTP channels share this transport."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from dashboard.alerts.delivery.channels.base import build_channel
from dashboard.alerts.delivery.transport.http import parse_retry_after
from tests.alerts.channels import fake_providers
from tests.alerts.channels.fake_providers import HANGS_S, SOON_S, TOKEN, Authority, HttpSink, at_most, hostile, message

FORM = format_datetime(datetime(2026, 3, 1, 3, 0, 30, tzinfo=UTC), usegmt=True)
SENT = format_datetime(datetime(2026, 3, 1, 3, 0, 0, tzinfo=UTC), usegmt=True)


def hook(sink: HttpSink, **more: Any) -> Any:
    table = {"id": "ops", "kind": "webhook", "url": sink.url, **more}
    return build_channel(table, allow_private=True)


def test_a_message_arrives_complete_with_id_and_signature(sink: HttpSink) -> None:
    channel = hook(sink, secret=TOKEN, headers={"Authorization": f"Bearer {TOKEN}"})
    delivered = channel.send(message())
    assert (delivered.ok, delivered.permanent, delivered.status, delivered.answer) == (True, False, "200", "ok")
    assert 0 < delivered.duration_s < 10
    (request,) = sink.requests
    assert request.path == f"/hook/{TOKEN}?sig={TOKEN}"
    assert request.headers["Host"] == f"127.0.0.1:{sink.port}"
    assert request.headers["Idempotency-Key"] == "ep1:firing:0:ops"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    version = request.headers["X-Queuedeck-Timestamp"]
    assert abs(int(version) - time.time()) < 60
    expected = hmac.new(TOKEN.encode(), f"{version}.".encode() + request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Queuedeck-Signature"] == f"v1={expected}"
    document = request.json()
    assert document["started_at"] == "2026-03-01T03:12:07.250Z"
    assert document["ended_at"] is None
    assert document["spark"] == [0.0, 1.0, None, 5.0, 9.0]
    assert document["lines"][0]["value_text"] == "12,004 jobs"
    assert document["lines_total"] == 1
    assert (document["kind"], document["episode"], document["queue"]) == ("firing", "ep1", "mail")


def test_a_webhook_without_a_secret_is_not_signed(sink: HttpSink) -> None:
    assert hook(sink).send(message()).ok
    assert "X-Queuedeck-Signature" not in sink.requests[0].headers


def test_a_hostile_message_arrives_bounded_and_as_json(sink: HttpSink) -> None:
    assert hook(sink).send(hostile(), 60).ok
    document = sink.requests[0].json()
    assert len(document["lines"]) == 100
    assert document["lines_total"] == 500
    assert "\n" not in document["title"]


@pytest.mark.parametrize(
    ("code", "permanent", "pause_s"),
    [
        *((301, True, None), (302, True, None), (307, True, None), (400, True, None), (401, True, None)),
        *((404, True, None), (410, True, None), (408, False, 7.0), (429, False, 7.0), (500, False, 7.0)),
        (503, False, 7.0),
    ],
)
def test_an_http_status_is_a_temporary_or_permanent_failure(
    sink: HttpSink, code: int, permanent: bool, pause_s: float | None
) -> None:
    sink.answers = [fake_providers.status(code, b"because", Retry_After="7", Location=sink.url)]
    delivered = hook(sink).send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, permanent, str(code))
    assert delivered.retry_after_s == pause_s
    assert len(sink.requests) == 1  # no redirect was followed and nothing was tried again


@pytest.mark.parametrize(
    "answer",
    [fake_providers.hang, fake_providers.drip_header, fake_providers.drip_body],
    ids=lambda answer: answer.__name__,
)
def test_a_slow_server_times_out(sink: HttpSink, answer: Callable[[Any], None]) -> None:
    sink.answers = [answer]
    with at_most(SOON_S):
        delivered = hook(sink).send(message(), 0.6)
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "timeout")
    assert 0.5 < delivered.duration_s < SOON_S


def test_a_slow_server_times_out_under_tls(tls_sink: HttpSink, authority: Authority) -> None:
    tls_sink.answers = [fake_providers.drip_header]
    with at_most(SOON_S):
        delivered = hook(tls_sink, ca_file=str(authority.ca)).send(message(), 0.6)
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "timeout")


def test_an_endless_tls_handshake_times_out(silent_port: int) -> None:
    channel = build_channel(
        {"id": "ops", "kind": "webhook", "url": f"https://127.0.0.1:{silent_port}/"}, allow_private=True
    )
    with at_most(SOON_S):
        delivered = channel.send(message(), 0.6)
    assert (delivered.permanent, delivered.status) == (False, "timeout")


def test_a_404_with_an_endless_body_is_a_permanent_failure(sink: HttpSink) -> None:
    sink.answers = [fake_providers.drip_refusal]
    delivered = hook(sink).send(message(), 3)  # within which the status must arrive
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, True, "404")


def test_only_the_start_of_a_huge_response_is_read(sink: HttpSink) -> None:
    sink.answers = [fake_providers.huge]
    with at_most(SOON_S):
        delivered = hook(sink).send(message(), HANGS_S)
    assert delivered.ok
    assert 0 < len(delivered.answer) <= 1000


@pytest.mark.parametrize(("answer", "word"), [(fake_providers.reset, "reset"), (fake_providers.garbage, "protocol")])
def test_a_broken_connection_can_be_retried_with_the_same_id(
    sink: HttpSink, answer: Callable[[Any], None], word: str
) -> None:
    sink.answers = [answer, fake_providers.status(200)]
    channel = hook(sink)
    first = channel.send(message())
    assert (first.ok, first.permanent, first.status) == (False, False, word)
    assert channel.send(message()).ok
    assert len({request.headers["Idempotency-Key"] for request in sink.requests}) == 1


def test_connection_refused(kept_port: int) -> None:
    channel = build_channel(
        {"id": "ops", "kind": "webhook", "url": f"http://127.0.0.1:{kept_port}/"}, allow_private=True
    )
    delivered = channel.send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "refused")


def test_only_certificates_of_a_trusted_authority_are_accepted(tls_sink: HttpSink, authority: Authority) -> None:
    delivered = hook(tls_sink).send(message())
    assert (delivered.ok, delivered.status) == (False, "tls")
    assert tls_sink.requests == []
    assert hook(tls_sink, ca_file=str(authority.ca)).send(message()).ok


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    server = HttpSink(authority.server_context(), "127.0.0.1")  # the certificate is for localhost
    try:
        delivered = hook(server, ca_file=str(authority.ca)).send(message())
    finally:
        server.close()
    assert (delivered.ok, delivered.status) == (False, "tls")
    assert server.requests == []


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        *(("120", None, 120.0), ("0", None, 0.0), ("-5", None, 0.0), ("0.25", None, 0.25), ("1e9", None, 86_400.0)),
        *((FORM, SENT, 30.0), (SENT, FORM, 0.0), ("nan", None, None), ("soon", None, None), ("", None, None)),
        (None, None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, date: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, date) == seconds


def test_a_retry_after_date_is_limited_to_a_day() -> None:
    assert parse_retry_after("Fri, 31 Dec 2999 23:59:59 GMT", None) == 86_400.0
