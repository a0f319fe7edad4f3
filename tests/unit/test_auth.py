"""Who is let in: by `auth = "none"`, whoever can be nobody but a person at this machine; by a token, who has it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from dashboard.auth import LOCAL, Role, local_identity, token_identity


def environ(**changes: Any) -> dict[str, Any]:
    return {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:9181"} | changes


def test_this_machine_is_let_in() -> None:
    peers = ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1")
    hosts = ("localhost", "LOCALHOST:9181", "127.0.0.1:9181", "[::1]:9181", "[::1]")
    found = {
        (peer, host): local_identity(environ(REMOTE_ADDR=peer, HTTP_HOST=host)) for peer in peers for host in hosts
    }
    assert {case: identity for case, identity in found.items() if identity is not LOCAL} == {}


OTHER_MACHINES = (
    "10.0.0.1",
    "192.168.0.1",
    "8.8.8.8",
    "::ffff:10.0.0.1",
    "fe80::1",
    "",
    "unix:",
    "nonsense",
)


def test_another_machine_is_not() -> None:
    assert [peer for peer in OTHER_MACHINES if local_identity(environ(REMOTE_ADDR=peer)) is not None] == []


FOREIGN_HOSTS = (
    *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]", "0.0.0.0"),
    *("localhost:1@evil.example", "localhost:80.evil.example", "[::1]evil.example", "[::1].evil.example:80"),
    *("localhost.", "127.1", "localhost:80:80", "localhost:\u0661", "localhost,evil.example", "2130706433"),
)


def test_a_foreign_host_name_is_not_even_from_this_machine() -> None:
    assert [host for host in FOREIGN_HOSTS if local_identity(environ(HTTP_HOST=host)) is not None] == []


# What proxies, load balancers and content networks add, by the names in their documentation.
FORWARDING = (
    *(
        "Forwarded",
        "Via",
        "X-Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
    ),
    *("X-Forwarded-Server", "X-Forwarded-Prefix", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP"),
    *("CF-Connecting-IP", "CF-Ray", "CF-Visitor", "Fastly-Client-IP", "X-Original-Host", "X-Original-URL"),
    *(
        "X-Original-Forwarded-For",
        "X-Envoy-External-Address",
        "X-Envoy-Internal",
        "X-Amzn-Trace-Id",
        "X-Azure-ClientIP",
    ),
    *("X-Remote-Addr", "X-ProxyUser-Ip", "X-Forwarder-For", "X-NginX-Proxy", "X-Scheme", "X-Host", "X-URL-Scheme"),
    *("X-ARR-LOG-ID", "X-Varnish", "Akamai-Origin-Hop", "X-Akamai-Edgescape", "X-AppEngine-Country", "X-SSL-Client-CN"),
    *("X-Cloud-Trace-Context", "X-Vercel-Id", "CloudFront-Viewer-Country", "Fastly-SSL", "Fly-Client-IP", "CDN-Loop"),
    *("Fly-Region", "Tailscale-User-Login", "Front-End-Https", "Surrogate-Capability", "Client-IP", "X-Rewrite-URL"),
)


def test_a_proxy_on_this_machine_does_not_open_the_door() -> None:
    names = {header: "HTTP_" + header.upper().replace("-", "_") for header in FORWARDING}
    let_in = [header for header, name in names.items() if local_identity(environ(**{name: "127.0.0.1"})) is not None]
    assert let_in == []


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"HTTP_ORIGIN": "https://queues.example.com"}, False),
        ({"HTTP_ORIGIN": "http://127.0.0.1.example.com:9181"}, False),
        ({"HTTP_ORIGIN": "http://localhost:9181"}, True),
        ({"HTTP_ORIGIN": "null"}, True),
        ({"HTTP_REFERER": "https://queues.example.com/workers"}, False),
        ({"HTTP_REFERER": "https://queues.example.com/workers", "HTTP_SEC_FETCH_SITE": "same-origin"}, False),
        ({"HTTP_REFERER": "https://wiki.example.com/", "HTTP_SEC_FETCH_SITE": "cross-site"}, True),
        ({"HTTP_REFERER": "http://[::1]:9181/workers", "HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        ({"HTTP_REFERER": ""}, True),
    ],
    ids=str,
)
def test_a_browser_that_sees_another_host_is_behind_a_proxy(headers: dict[str, str], let_in: bool) -> None:
    """As behind a proxy for development that sets Host and adds no header of its own."""
    assert local_identity(environ(**headers)) is (LOCAL if let_in else None)


def test_a_proxy_that_adds_nothing_is_known_by_its_old_protocol() -> None:
    assert local_identity(environ(SERVER_PROTOCOL="HTTP/1.0")) is None
    assert local_identity(environ(SERVER_PROTOCOL="HTTP/1.1")) is LOCAL


TOKENS = (
    "ci:viewer:" + hashlib.sha256(b"viewer-token").hexdigest(),
    "ops:operator:" + hashlib.sha256(b"ops-token").hexdigest().upper(),
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer viewer-token", ("ci", Role.VIEWER)),
        ("bearer  ops-token ", ("ops", Role.OPERATOR)),
        ("Bearer other", None),
        ("Bearer ", None),
        ("Basic viewer-token", None),
        ("", None),
    ],
)
def test_a_token_identifies_its_user(header: str, expected: tuple[str, Role] | None) -> None:
    identity = token_identity({"HTTP_AUTHORIZATION": header}, TOKENS)
    assert (identity and (identity.name, identity.role)) == expected
