"""Closed to anything but this machine, until access is configured."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from dashboard.access import FORWARDING_HEADERS, LOCAL, Role, local_identity, token_identity


def environ(**changes: Any) -> dict[str, Any]:
    return {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:9181"} | changes


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9181", "127.0.0.1:9181", "[::1]:9181", "[::1]"])
def test_this_machine_is_let_in(peer: str, host: str) -> None:
    assert local_identity(environ(REMOTE_ADDR=peer, HTTP_HOST=host), ()) is LOCAL


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", "192.168.0.1", "8.8.8.8", "::ffff:10.0.0.1", "fe80::1", "", "unix:", "nonsense"]
)
def test_another_machine_is_not(peer: str) -> None:
    assert local_identity(environ(REMOTE_ADDR=peer), ()) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]", "0.0.0.0"]
)
def test_a_foreign_host_name_is_not_even_from_this_machine(host: str) -> None:
    assert local_identity(environ(HTTP_HOST=host), ()) is None


def test_a_host_name_can_be_trusted_by_the_settings() -> None:
    assert local_identity(environ(HTTP_HOST="queues.internal:80"), ("queues.internal",)) is LOCAL


@pytest.mark.parametrize("header", FORWARDING_HEADERS)
def test_a_proxy_on_this_machine_does_not_open_the_door(header: str) -> None:
    assert local_identity(environ(**{header: "127.0.0.1"}), ()) is None


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
def test_a_token_tells_who_asks(header: str, expected: tuple[str, Role] | None) -> None:
    identity = token_identity({"HTTP_AUTHORIZATION": header}, TOKENS)
    assert (identity and (identity.name, identity.role)) == expected
