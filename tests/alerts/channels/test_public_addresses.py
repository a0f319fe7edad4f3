"""Webhooks connect to public addresses only: each address is checked once and then used."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from dashboard.alerts.delivery.channels.base import build_channel
from dashboard.alerts.delivery.channels.config import Endpoint
from dashboard.alerts.delivery.transport.deadline import Deadline
from dashboard.alerts.delivery.transport.http import HTTPAnswer, HTTPTransport
from dashboard.alerts.delivery.transport.public_addresses import is_public
from dashboard.alerts.delivery.transport.redaction import Scrubber
from tests.alerts.channels import fake_providers
from tests.alerts.channels.fake_providers import HANGS_S, SOON_S, Authority, HttpSink, at_most, message

REFUSED = [
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "192.168.1.1"),
    *("192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1"),
    *("2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0"),
    *("fec0::1", "ff02::1", "ff0e::1", "3fff::1", "5f00::1", "4000::1", "not an address", ""),
]


def name_server(*answers: list[str]) -> tuple[Any, list[str]]:
    """A resolver that gives these answers in turn, and the list of the names it was asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [
            (socket.AF_INET6, 1, 6, "", (text, port, 0, 0)) if ":" in text else (socket.AF_INET, 1, 6, "", (text, port))
            for text in found
        ]

    return resolve, asked


def post(url: str, resolver: Any, seconds: float = 30.0, **options: Any) -> Any:
    transport = HTTPTransport(Endpoint(url), Scrubber([]), resolver=resolver, **options)
    with Deadline(seconds) as deadline:
        return transport.post(b"{}", {}, deadline)


def test_a_private_or_reserved_address_is_not_public() -> None:
    assert [text for text in REFUSED if is_public(text)] == []


def test_an_internet_address_is_public() -> None:
    public = ("8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1")
    assert [text for text in public if not is_public(text)] == []


def test_a_name_with_a_private_address_is_refused_without_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(Deadline, "connect_socket", lambda *arguments, **_: opened.append(arguments))
    addresses = [text for text in REFUSED if text and " " not in text]
    for text in addresses:
        resolver, _ = name_server([text])
        refused = post("https://hooks.example.com/x", resolver)
        assert (refused.ok, refused.permanent, refused.status) == (False, True, "address"), text
        assert opened == [], text


def test_a_name_with_public_and_private_addresses_is_refused(sink: HttpSink) -> None:
    resolver, _ = name_server(["8.8.8.8", "127.0.0.1"])
    assert post(f"http://hooks.example.com:{sink.port}/", resolver).status == "address"
    assert sink.requests == []


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "017700000001", "[::1]"),
        *("[::ffff:127.0.0.1]", "0", "0.0.0.0"),
    ],
)
def test_every_spelling_of_loopback_is_refused_by_the_real_resolver(sink: HttpSink, host: str) -> None:
    channel = build_channel({"id": "ops", "kind": "webhook", "url": f"https://{host}:{sink.port}/"})
    delivered = channel.send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, True, "address")
    assert sink.requests == []


def test_the_connection_uses_the_checked_address(sink: HttpSink) -> None:
    other = HttpSink(host="127.0.0.2", port=sink.port)
    resolver, asked = name_server(["127.0.0.1"], ["127.0.0.2"])
    try:
        answer = post(f"http://rebind.test:{sink.port}/", resolver, allow_private=True)
    finally:
        other.close()
    assert isinstance(answer, HTTPAnswer)
    assert asked == ["rebind.test"]
    assert (len(sink.requests), len(other.requests)) == (1, 0)
    assert sink.requests[0].headers["Host"] == f"rebind.test:{sink.port}"


def test_tls_verifies_the_host_name(authority: Authority) -> None:
    context = authority.server_context()
    named: list[str | None] = []
    context.sni_callback = lambda _sock, name, _context: named.append(name)
    server = HttpSink(context, "127.0.0.1")
    resolver, _ = name_server(["127.0.0.1"])
    options = {"allow_private": True, "ca_file": str(authority.ca)}
    try:
        good = post(f"https://sink.test:{server.port}/", resolver, **options)
        bad = post(f"https://else.test:{server.port}/", resolver, **options)
    finally:
        server.close()
    assert isinstance(good, HTTPAnswer)
    assert bad.status == "tls"
    assert named == ["sink.test", "else.test"]
    assert len(server.requests) == 1


def test_a_redirect_to_loopback_is_not_followed(sink: HttpSink) -> None:
    inner = HttpSink()
    sink.answers = [fake_providers.status(302, Location=inner.url)]
    try:
        delivered = build_channel({"id": "ops", "kind": "webhook", "url": sink.url}, allow_private=True).send(message())
    finally:
        inner.close()
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, True, "302")
    assert inner.requests == []


def test_the_next_address_is_tried_when_one_does_not_answer(sink: HttpSink) -> None:
    resolver, _ = name_server(["127.0.0.3", "127.0.0.1"])  # no server listens on the first
    answer = post(f"http://two.test:{sink.port}/", resolver, allow_private=True)
    assert isinstance(answer, HTTPAnswer)


def test_a_hanging_resolver_times_out(silent_port: int) -> None:
    def resolver(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        with socket.create_connection(("127.0.0.1", silent_port), timeout=HANGS_S) as sock:
            sock.recv(1)
        return []

    with at_most(SOON_S):
        assert post("https://slow.test/", resolver, 0.4).status == "timeout"


def test_an_unknown_host_name_is_a_temporary_failure() -> None:
    delivered = build_channel({"id": "ops", "kind": "webhook", "url": "https://nowhere.invalid/"}).send(message(), 60)
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, False, "dns")


def test_proxies_from_the_environment_are_not_used(sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = HttpSink()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    try:
        assert build_channel({"id": "ops", "kind": "webhook", "url": sink.url}, allow_private=True).send(message()).ok
    finally:
        proxy.close()
    assert (len(sink.requests), len(proxy.requests)) == (1, 0)
