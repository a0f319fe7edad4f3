"""Mail to a real server that accepts, defers, refuses, hangs or uses TLS."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from dashboard.alerts.delivery.channels.base import build_channel
from dashboard.alerts.delivery.channels.email_message import mail_message_id
from tests.alerts.channels.fake_providers import ENDED, HANGS_S, SOON_S, TOKEN, Authority, at_most, hostile, message
from tests.alerts.channels.smtp import SmtpSink

Start = Callable[..., SmtpSink]


def mailer(server: SmtpSink | int, **more: Any) -> Any:
    port = server if isinstance(server, int) else server.port
    table = {"id": "ops", "kind": "email", "host": "127.0.0.1", "port": port, "tls": "none"}
    people = {"from": "Queuedeck <deck@example.com>", "to": ["a@example.com", "b@example.com"]}
    return build_channel({**table, **people, **more})


def test_a_mail_has_subject_value_threshold_errors_and_links(smtp_sink: Start) -> None:
    server = smtp_sink()
    delivered = mailer(server).send(message())
    assert (delivered.ok, delivered.status, delivered.answer) == (True, "250", "queued")
    (mail,) = server.mails
    assert server.to == [["a@example.com", "b@example.com"]]
    assert mail["Subject"] == "[FIRING critical] mail: 12,004 jobs waiting"
    assert (mail["From"], mail["To"]) == ("Queuedeck <deck@example.com>", "a@example.com, b@example.com")
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_body(("plain",)).get_content()
    page = mail.get_body(("html",)).get_content()
    for part in (text, page):
        assert "main / rq / mail: 12,004 jobs (fires above 10,000 jobs), since 03:12" in part
        assert "2026-03-01 03:12:07 UTC" in part
        assert "SMTPServerDisconnected: please run connect() first" in part
        for url in ("deck.example/ack/ep1", "deck.example/silence/ep1", "runbook.example/mail", "queues/main/rq/mail"):
            assert f"https://{url}" in part or url in part
    assert 'src="cid:last-hour"' in page
    assert "Last hour: ▁▁·▅█" in text


def test_the_chart_is_an_inline_png(smtp_sink: Start) -> None:
    server = smtp_sink()
    assert mailer(server).send(message()).ok
    (image,) = [part for part in server.mails[0].walk() if part.get_content_type() == "image/png"]
    assert image["Content-ID"] == "<last-hour>"
    assert image.get_content_disposition() == "inline"
    data = image.get_content()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (560, 96)
    length = struct.unpack(">I", data[33:37])[0]
    assert data[37:41] == b"IDAT"
    assert len(zlib.decompress(data[41 : 41 + length])) == height * (1 + 3 * width)


def test_a_mail_without_values_has_no_chart(smtp_sink: Start) -> None:
    server = smtp_sink()
    assert mailer(server).send(message(spark=(None, float("nan"), float("inf")))).ok
    mail = server.mails[0]
    assert [part.get_content_type() for part in mail.walk() if not part.is_multipart()] == ["text/plain", "text/html"]
    assert "cid:" not in mail.get_body(("html",)).get_content()


@pytest.mark.parametrize("domain", ["example.com", "a-long-name-of-a-department." * 4 + "example.com"])
def test_the_mails_of_an_episode_form_a_thread(smtp_sink: Start, domain: str) -> None:
    server = smtp_sink()
    channel = mailer(server, **{"from": f"deck@{domain}"})
    first = message()
    assert channel.send(first).ok
    assert channel.send(message(id="ep1:resolved:1:ops", kind="resolved", ended_at=ENDED, references=first.id)).ok
    opening, closing = server.mails
    assert opening["Message-ID"] == mail_message_id(first.id, domain)
    assert opening["References"] is None
    assert closing["References"] == closing["In-Reply-To"] == opening["Message-ID"]
    assert closing["Message-ID"] != opening["Message-ID"]
    assert opening["X-Queuedeck-Id"] == first.id
    assert "41 m" in closing.get_body(("plain",)).get_content()
    assert "/ack/" not in closing.get_body(("plain",)).get_content()
    for raw in server.raw:
        assert max(map(len, raw.split(b"\r\n"))) <= 998


def test_a_hostile_name_adds_no_header_and_no_markup(smtp_sink: Start) -> None:
    server = smtp_sink()
    assert mailer(server).send(hostile()).ok
    mail = server.mails[0]
    assert "Bcc" not in mail
    assert server.to == [["a@example.com", "b@example.com"]]
    assert mail.defects == []
    page = mail.get_body(("html",)).get_content()
    assert "<b>&quot;" not in page
    assert '<b>"x"' not in page
    assert "javascript:" not in page
    assert "and 480 more" in page
    assert len(server.raw[0]) < 200_000


@pytest.mark.parametrize(
    ("answer", "permanent"), [("451 try later", False), ("421 going down", False), ("550 no such thing", True)]
)
def test_an_smtp_reply_is_a_temporary_or_permanent_failure(smtp_sink: Start, answer: str, permanent: bool) -> None:
    delivered = mailer(smtp_sink(data=answer)).send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, permanent, answer[:3])
    assert delivered.answer == answer[4:]


def test_if_all_recipients_are_refused_the_mildest_refusal_counts(smtp_sink: Start) -> None:
    server = smtp_sink(recipients={"a@example.com": "550 unknown", "b@example.com": "450 greylisted"})
    delivered = mailer(server).send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "450")
    assert server.mails == []


def test_only_temporarily_refused_recipients_are_retried(smtp_sink: Start) -> None:
    server = smtp_sink(recipients={"b@example.com": "450 greylisted"})
    channel = mailer(server)
    first = channel.send(message())
    assert (first.ok, first.permanent, first.status) == (False, False, "450")
    assert "b@example.com" in first.answer
    server.recipients = {}
    assert channel.send(message()).ok
    assert server.to == [["a@example.com"], ["b@example.com"]]
    assert server.mails[0]["Message-ID"] == server.mails[1]["Message-ID"]


def test_one_unknown_address_does_not_block_other_recipients(smtp_sink: Start) -> None:
    server = smtp_sink(recipients={"b@example.com": "550 unknown"})
    delivered = mailer(server).send(message())
    assert delivered.ok
    assert "not delivered to b@example.com: 550 unknown" in delivered.answer
    assert server.to == [["a@example.com"]]


def test_a_recipient_refused_on_retry_does_not_fail_the_delivery(smtp_sink: Start) -> None:
    server = smtp_sink(recipients={"b@example.com": "450 greylisted"})
    channel = mailer(server)
    assert not channel.send(message()).ok
    server.recipients = {"b@example.com": "550 unknown"}
    delivered = channel.send(message())
    assert delivered.ok
    assert "not delivered to b@example.com: 550 unknown" in delivered.answer
    assert server.to == [["a@example.com"]]


def test_a_server_that_hangs_after_the_mail_times_out(smtp_sink: Start) -> None:
    channel = mailer(smtp_sink(data="hang"))
    with at_most(SOON_S):
        delivered = channel.send(message(), 0.8)
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "timeout")


@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
def test_a_silent_server_times_out(silent_port: int, tls: str) -> None:
    with at_most(SOON_S):
        delivered = mailer(silent_port, tls=tls).send(message(), 0.5)
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "timeout")


def test_a_server_that_drips_bytes_times_out(drip_port: int) -> None:
    with at_most(SOON_S):
        delivered = mailer(drip_port).send(message(), 0.5)
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "timeout")


def test_a_server_that_floods_is_disconnected_early(flood_port: int) -> None:
    with at_most(SOON_S):
        delivered = mailer(flood_port).send(message(), HANGS_S)
    assert (delivered.ok, delivered.permanent) == (False, False)
    assert delivered.status in ("reset", "protocol")


def test_connection_refused(kept_port: int) -> None:
    delivered = mailer(kept_port).send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "refused")


def test_starttls_with_a_private_certificate_authority(smtp_sink: Start, authority: Authority) -> None:
    server = smtp_sink(tls_context=authority.server_context(), require_starttls=True, auth_required=True)
    known = {"host": "localhost", "tls": "starttls", "username": "deck", "password": TOKEN}
    refused = mailer(server, **known).send(message())
    assert (refused.ok, refused.permanent, refused.status) == (False, False, "tls")
    assert server.logins == []
    assert mailer(server, **known, ca_file=str(authority.ca)).send(message()).ok
    assert server.logins == [(b"deck", TOKEN.encode())]
    assert len(server.mails) == 1


def test_a_wrong_password_is_a_permanent_failure_and_not_shown(smtp_sink: Start, authority: Authority) -> None:
    server = smtp_sink(tls_context=authority.server_context(), require_starttls=True, auth_required=True)
    more = {"host": "localhost", "tls": "starttls", "ca_file": str(authority.ca), "username": "deck"}
    delivered = mailer(server, **more, password="wrong-password").send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, True, "535")
    assert "wrong-password" not in repr(delivered)


def test_a_mail_is_sent_over_implicit_tls(smtp_sink: Start, authority: Authority) -> None:
    server = smtp_sink(direct_tls=authority.server_context())
    assert mailer(server, host="localhost", tls="tls", ca_file=str(authority.ca)).send(message()).ok
    assert mailer(server, host="127.0.0.1", tls="tls", ca_file=str(authority.ca)).send(message()).status == "tls"
    assert len(server.mails) == 1


def test_a_server_without_starttls_gets_no_mail(smtp_sink: Start) -> None:
    server = smtp_sink()
    delivered = mailer(server, tls="starttls").send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, True, "unsupported")
    assert server.mails == []
