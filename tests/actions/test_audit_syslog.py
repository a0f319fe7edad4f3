"""Audit events at a syslog receiver: real sockets of every kind, receivers that are away, and what is lost."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.actions import audit_syslog
from dashboard.actions.audit_log import Actor, AuditLog, build_event
from dashboard.actions.audit_syslog import SyslogForwarder
from dashboard.demo.embedded import reserved_port
from dashboard.settings.syslog_targets import SyslogTarget, parse_syslog_target
from dashboard.sources.source import Source
from tests.waiting import CEILING_S, wait_until

ANNA = Actor(name="anna", role="operator", address="10.0.0.3")
LINE = re.compile(
    rb"<110>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [!-~]{1,255} queuedeck \d+ (asked|done) - (\{.*\})", re.DOTALL
)


@pytest.fixture
def forwarders() -> Iterator[list[SyslogForwarder]]:
    """Those of a test, which are stopped at its end."""
    made: list[SyslogForwarder] = []
    yield made
    for each in made:
        each.stop()


def datagrams(kind: int, address: Any) -> socket.socket:
    receiver = socket.socket(kind, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(CEILING_S)
    return receiver


def listener(port: int = 0) -> socket.socket:
    opened = socket.create_server(("127.0.0.1", port))
    opened.settimeout(CEILING_S)
    return opened


def read(message: bytes) -> tuple[str, dict[str, Any]]:
    """The MSGID and the event of a message."""
    found = LINE.fullmatch(message)
    assert found, message
    return found[1].decode(), json.loads(found[2])


@pytest.mark.parametrize("protocol", ["udp", "unix"])
def test_events_are_datagrams_of_rfc_5424(
    source: Source, redis_client: redis.Redis, forwarders: list[SyslogForwarder], tmp_path: Path, protocol: str
) -> None:
    udp = protocol == "udp"
    address: Any = ("127.0.0.1", 0) if udp else str(tmp_path / "log")
    with closing(datagrams(socket.AF_INET if udp else socket.AF_UNIX, address)) as receiver:
        where = f"udp://127.0.0.1:{receiver.getsockname()[1]}" if udp else f"unix://{address}"
        target = parse_syslog_target(where)
        assert target is not None
        assert str(target) == where
        forwarders.append(SyslogForwarder(target))
        log = AuditLog(source, syslog=forwarders[0])
        event = build_event(ANNA, "retry", ids=["é\n\udcff"] + ["x" * 200] * 99, reason="as agreed")
        log.log_intent(event)
        log.record_event(event)
        for word in ("asked", "done"):
            msgid, sent = read(receiver.recv(65_536))
            assert (msgid, sent["who"], sent["address"], sent["count"]) == (word, "anna", "10.0.0.3", 100)
            assert 10 < len(sent["ids"]) < 100  # fewer, so that receivers do not cut the message
        log.stop()
        assert forwarders[0].lost == 0


def test_a_receiver_that_was_away_gets_what_waited(
    forwarders: list[SyslogForwarder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Over TCP, one line per event, in order; a connection that the receiver has closed is opened again."""
    monkeypatch.setattr(audit_syslog, "RETRY_S", (0.01,))
    monkeypatch.setattr(audit_syslog, "MAX_WAITING", 3)
    with reserved_port() as port:
        forwarder = SyslogForwarder(SyslogTarget("tcp", "127.0.0.1", port))
        forwarders.append(forwarder)
        for number in range(5):
            forwarder.forward("done", {"ids": [], "count": number})
        wait_until(lambda: "cannot be forwarded" in caplog.text, what="the failed attempt")
        assert forwarder.lost == 2
        assert "too many are waiting" in caplog.text
        with listener(port) as back:
            first, _ = back.accept()
            with closing(first), first.makefile("rb") as lines:
                first.settimeout(CEILING_S)
                assert [read(lines.readline().rstrip(b"\n"))[1]["count"] for _ in range(3)] == [0, 1, 2]
            back.settimeout(0.05)
            accepted: list[socket.socket] = []

            def is_back() -> bool:
                """Whether it has connected again; what is sent before it notices the end of the connection is lost."""
                forwarder.forward("done", {"ids": [], "count": 6})
                with suppress(TimeoutError):
                    accepted.append(back.accept()[0])
                return bool(accepted)

            wait_until(is_back, what="the second connection")
            (second,) = accepted
            with closing(second), second.makefile("rb") as lines:
                second.settimeout(CEILING_S)
                assert read(lines.readline().rstrip(b"\n"))[1]["count"] == 6
    assert [message for message in caplog.messages if "again; 2 were lost" in message]


def test_stopping_sends_what_waits_and_does_not_wait_for_a_receiver_that_is_away(
    forwarders: list[SyslogForwarder], caplog: pytest.LogCaptureFixture
) -> None:
    with listener() as receiver:
        forwarder = SyslogForwarder(SyslogTarget("tcp", "127.0.0.1", receiver.getsockname()[1]))
        for number in range(20):
            forwarder.forward("done", {"ids": [], "count": number})
        forwarder.stop()
        accepted, _ = receiver.accept()
        with closing(accepted), accepted.makefile("rb") as lines:
            assert len(lines.readlines()) == 20
    with reserved_port() as port:
        away = SyslogForwarder(SyslogTarget("tcp", "127.0.0.1", port))
        away.forward("done", {"ids": [], "count": 1})
        away.stop()
        wait_until(lambda: "queuedeck-syslog" not in {each.name for each in threading.enumerate()}, what="the end")
    assert "1 audit events were not forwarded" in caplog.text
    away.forward("done", {"ids": [], "count": 2})
    assert away.lost == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "udp://", "logs:514", "http://logs", "udp://logs:0", "udp://logs:99999", "udp://a@logs", "udp://logs/x"),
        *(
            "unix://",
            "unix:///",
            "unix://logs/dev",
            "unix:///" + "x" * 120,
            "tcp://logs?x=1",
            "tcp://lo\ngs",
            "udp://[::1",
        ),
    ],
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    assert parse_syslog_target(text) is None


def test_the_port_is_514_by_default() -> None:
    assert str(parse_syslog_target("tcp://[::1]")) == "tcp://[::1]:514"
