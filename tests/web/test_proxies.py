"""Proxies that the settings trust: whose address counts, and who cannot make one up."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from werkzeug.security import generate_password_hash

from dashboard.auth import parse_networks
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.web.access.proxies import TrustedProxies
from dashboard.web.context import app_services
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}
ADA = {"name": "ada", "password_hash": generate_password_hash("password", "scrypt:1024:8:1"), "role": "admin"}


def seen(peer: str, headers: dict[str, str], **trusted: Any) -> dict[str, Any]:
    """The environ that the application gets."""
    found: dict[str, Any] = {}

    def app(environ: dict[str, Any], _start_response: object) -> list[bytes]:
        found.update(environ)
        return []

    names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    environ = {"REMOTE_ADDR": peer, "HTTP_HOST": "inner:9181", "wsgi.url_scheme": "http", **names}
    TrustedProxies(app, **trusted)(environ, lambda *_: lambda _: None)  # type: ignore[arg-type,return-value]
    return found


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", "198.51.100.7"),  # what a client invents comes first
        ("198.51.100.7, 10.0.0.9", "198.51.100.7"),
        ("6.6.6.6,198.51.100.7,10.0.0.9,10.0.0.8", "198.51.100.7"),
        ("10.0.0.9", "10.0.0.9"),  # somebody within
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("6.6.6.6, unknown, 10.0.0.9", "10.0.0.9"),
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("<script>, \udcff", "10.0.0.1"),
        ("1," * 100_000 + "198.51.100.7", "198.51.100.7"),
    ],
)
def test_with_networks_the_nearest_untrusted_address_is_the_client(forwarded: str, address: str) -> None:
    networks = parse_networks(["10.0.0.0/8"])
    assert seen("10.0.0.1", {"X-Forwarded-For": forwarded}, networks=networks)["REMOTE_ADDR"] == address


@pytest.mark.parametrize(
    ("count", "forwarded", "address"),
    [
        (1, "6.6.6.6, 198.51.100.7", "198.51.100.7"),
        (2, "6.6.6.6, 198.51.100.7, 192.0.2.1", "198.51.100.7"),
        (2, "198.51.100.7", "192.0.2.9"),
        (1, "", "192.0.2.9"),
        (1, "garbage", "192.0.2.9"),
    ],
)
def test_with_a_number_that_many_hops_are_trusted(count: int, forwarded: str, address: str) -> None:
    assert seen("192.0.2.9", {"X-Forwarded-For": forwarded}, count=count)["REMOTE_ADDR"] == address


def test_scheme_and_host_are_those_of_the_nearest_proxy() -> None:
    headers = {"X-Forwarded-Proto": "gopher, HTTPS", "X-Forwarded-Host": "evil.example, queues.example.com"}
    found = seen("10.0.0.1", headers, count=1)
    assert (found["wsgi.url_scheme"], found["HTTP_HOST"]) == ("https", "queues.example.com")
    found = seen("10.0.0.1", {"X-Forwarded-Proto": "gopher"}, count=1)
    assert (found["wsgi.url_scheme"], found["HTTP_HOST"]) == ("http", "inner:9181")


def test_a_peer_on_a_unix_socket_is_a_proxy() -> None:
    found = seen("", {"X-Forwarded-For": "6.6.6.6, 198.51.100.7"}, networks=parse_networks(["10.0.0.0/8"]))
    assert found["REMOTE_ADDR"] == "198.51.100.7"


def test_headers_of_other_peers_are_ignored() -> None:
    headers = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    found = seen("192.0.2.9", headers, networks=parse_networks(["10.0.0.0/8", "127.0.0.1"]))
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"], found["HTTP_HOST"]) == ("192.0.2.9", "http", "inner:9181")


def test_the_audit_log_and_limits_use_the_real_address(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = make_app(users=[ADA], secret_key="k" * 40, trusted_proxies=["127.0.0.1"])
    form = {"name": "ada", "password": "wrong"}
    for _ in range(6):
        answer = app.test_client().post("/login", data=form, headers=SAME | {"X-Forwarded-For": "198.51.100.7"})
    assert answer.status_code == 429
    form["password"] = "password"
    headers = {"X-Forwarded-For": "198.51.100.8", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "q.example.com"}
    # A browser that tells no Sec-Fetch-Site: its Origin is that of the proxy.
    answer = app.test_client().post("/login", data=form, headers=headers | {"Origin": "https://q.example.com"})
    assert answer.status_code == 303
    assert "__Secure-queuedeck=" in answer.headers.getlist("Set-Cookie")[1]
    with app.app_context():
        assert [each.address for each in app_services().action_service.audit_log.list_page().events] == [
            "198.51.100.8"
        ] + ["198.51.100.7"] * 6


def test_without_the_setting_headers_are_ignored(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = make_app(users=[ADA], secret_key="k" * 40)
    form = {"name": "ada", "password": "wrong"}
    for number in range(6):
        answer = app.test_client().post("/login", data=form, headers=SAME | {"X-Forwarded-For": f"198.51.100.{number}"})
    assert answer.status_code == 429


@pytest.mark.parametrize("given", [-1, 9, ["10.0.0.0/33"], ["proxy.example.com"], ["10.0.0.1/8"], "x", 1.5, True])
def test_an_invalid_proxy_setting_is_rejected(given: object) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        load(environ={}, keywords={"trusted_proxies": given})


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("10.0.0.0/8, 127.0.0.1", ("10.0.0.0/8", "127.0.0.1")), ("", ())]
)
def test_from_the_environment(text: str, value: object) -> None:
    assert load(environ={"QUEUEDECK_TRUSTED_PROXIES": text}).trusted_proxies == value
