"""Sign-in at a proxy: users and roles from its headers, which are ignored in requests from other addresses."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from dashboard.auth import Identity
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.settings.display import describe
from dashboard.web.app import create_app
from dashboard.web.context import app_services
from tests.web.conftest import MakeApp

PROXY = "10.0.0.7"
SAME = {"Sec-Fetch-Site": "same-origin"}
SIGN_IN = {
    "peers": [PROXY, "10.1.0.0/16"],
    "user_header": "X-Forwarded-Email",
    "groups_header": "X-Forwarded-Groups",
    "user_roles": {"anna@example.com": "admin", "jürgen": "viewer"},
    "group_roles": {"ops": "operator", "staff": "viewer"},
}
TOKEN = f"ci:viewer:{hashlib.sha256(b'let me in').hexdigest()}"


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(auth="auto", proxy_sign_in=SIGN_IN)


def ask(
    client: FlaskClient,
    path: str = "/workers",
    *,
    peer: str | None = PROXY,
    user: str | None = None,
    groups: str | None = None,
    **more: str,
) -> Any:
    """The answer to a request that arrives from `peer` with these headers; None: through a unix socket."""
    headers = {"X-Forwarded-Email": user, "X-Forwarded-Groups": groups, **more}
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    return client.get(path, headers=sent, environ_overrides={"REMOTE_ADDR": peer or ""})


@pytest.mark.parametrize(
    ("user", "groups", "role"),
    [
        ("anna@example.com", None, "admin"),
        ("anna@example.com", "staff", "admin"),
        ("ben@example.com", "staff", "viewer"),
        ("ben@example.com", "staff, ops", "operator"),
        ("ben@example.com", "ops,staff", "operator"),
        ("ben@example.com", "none,of,these", None),
        ("ben@example.com", None, None),
        ("Anna@example.com", None, None),  # another user
        ("anna@example.com.evil.example", None, None),
        ("ben@example.com", "OPS", None),
        ("jürgen".encode().decode("latin-1"), None, "viewer"),
    ],
)
def test_a_user_has_the_highest_of_the_roles(app: Flask, user: str, groups: str | None, role: str | None) -> None:
    answer = ask(app.test_client(), user=user, groups=groups)
    if role is None:
        assert (answer.status_code, "has no role in Queuedeck." in answer.text) == (403, True)
        return
    assert answer.status_code == 200
    assert f'<span title="{role}">' in answer.text
    assert (ask(app.test_client(), "/audit", user=user, groups=groups).status_code == 200) == (role == "admin")


def test_everyone_may_have_a_role(make_app: MakeApp) -> None:
    client = make_app(auth="auto", proxy_sign_in={**SIGN_IN, "default_role": "operator"}).test_client()
    assert '<span title="operator">' in ask(client, user="carl").text
    assert '<span title="operator">' in ask(client, user="carl", groups="staff").text
    assert '<span title="admin">' in ask(client, user="anna@example.com").text
    assert ask(client).status_code == 403


@pytest.mark.parametrize("peer", ["10.0.0.8", "127.0.0.1", "::1", "11.0.0.7", "unknown", None])
def test_the_headers_of_anyone_else_do_not_count(app: Flask, peer: str | None) -> None:
    answer = ask(app.test_client(), peer=peer, user="anna@example.com", X_Forwarded_For=PROXY, X_Real_IP=PROXY)
    assert answer.status_code == 403
    assert "Sign-in is at the proxy in front of this dashboard; this request did not come from it." in answer.text
    assert "anna" not in answer.text


@pytest.mark.parametrize("peer", [PROXY, "10.1.2.3", f"::ffff:{PROXY}"])
def test_the_headers_of_listed_addresses_count(app: Flask, peer: str) -> None:
    assert ask(app.test_client(), peer=peer, user="anna@example.com").status_code == 200


@pytest.mark.parametrize("trusted", [1, [PROXY], ["0.0.0.0/0"]])
def test_a_client_cannot_take_the_address_of_the_proxy(make_app: MakeApp, trusted: Any) -> None:
    """The address of a client, which a trusted header names, is for the audit log; it does not make it the proxy."""
    client = make_app(auth="auto", proxy_sign_in=SIGN_IN, trusted_proxies=trusted).test_client()
    answer = ask(client, peer="10.0.0.8", user="anna@example.com", X_Forwarded_For=PROXY)
    assert answer.status_code == 403
    answer = ask(client, user="anna@example.com", X_Forwarded_For="198.51.100.7")
    assert answer.status_code == 200


def test_an_address_that_something_else_replaced_does_not_count(make_app: MakeApp) -> None:
    """ProxyFix of a host application makes any client the proxy, or the proxy any client."""
    app = make_app(auth="auto", proxy_sign_in=SIGN_IN)
    fixed = Client(ProxyFix(app.wsgi_app, x_for=1))
    for peer, client in (("10.0.0.8", PROXY), (PROXY, "198.51.100.7")):
        headers = {"X-Forwarded-Email": "anna@example.com", "X-Forwarded-For": client}
        answer = fixed.get("/workers", headers=headers, environ_overrides={"REMOTE_ADDR": peer})
        assert (answer.status_code, "use identify in that application" in answer.text) == (403, True)


@pytest.mark.parametrize(
    ("host", "forwarded", "status"),
    [
        ("127.0.0.1:9181", "queues.example.com", 200),  # the default of nginx
        ("queues.example.com", None, 200),
        ("public.example.com", None, 200),
        ("evil.example", None, 403),  # a page whose name leads to this machine, in a browser here
        ("evil.example", "queues.example.com", 403),
        ("evil.example", "localhost", 403),
    ],
)
def test_a_page_elsewhere_cannot_be_the_proxy_of_this_machine(
    make_app: MakeApp, host: str, forwarded: str | None, status: int
) -> None:
    client = make_app(
        auth="auto",
        proxy_sign_in={**SIGN_IN, "peers": ["127.0.0.1"]},
        trusted_hosts=["queues.example.com", "public.example.com"],
        trusted_proxies=["127.0.0.1"],
        public_url="https://public.example.com:8443/",
    ).test_client()
    headers = {"Host": host} | ({"X_Forwarded_Host": forwarded} if forwarded else {})
    assert ask(client, peer="127.0.0.1", user="anna@example.com", **headers).status_code == status


def test_the_public_address_is_a_name_of_the_dashboard(make_app: MakeApp) -> None:
    settings = {**SIGN_IN, "peers": ["127.0.0.1"]}
    client = make_app(auth="auto", proxy_sign_in=settings, public_url="https://q.example.com/").test_client()
    for host, status in (("q.example.com", 200), ("evil.example", 403)):
        answer = ask(client, peer="127.0.0.1", user="anna@example.com", Host=host)
        assert answer.status_code == status
    assert "add it to trusted_hosts" in answer.text


def test_a_user_without_a_role_can_sign_out(make_app: MakeApp) -> None:
    client = make_app(auth="auto", proxy_sign_in={**SIGN_IN, "sign_out_url": "/bye"}).test_client()
    answer = ask(client, user="zed")
    assert (answer.status_code, 'href="/bye"' in answer.text) == (403, True)
    assert 'href="/bye"' not in ask(client, peer="10.0.0.8", user="zed").text


def test_a_proxy_may_connect_to_a_unix_socket(make_app: MakeApp) -> None:
    client = make_app(auth="auto", proxy_sign_in={**SIGN_IN, "peers": ["unix"]}).test_client()
    assert ask(client, peer=None, user="anna@example.com").status_code == 200
    assert ask(client, peer=PROXY, user="anna@example.com").status_code == 403


@pytest.mark.parametrize(
    "user", ["anna@example.com,ben", "anna@example.com, anna@example.com", " ", "a" * 201, "a\x1bb", "a\u202eb"]
)
def test_a_name_that_may_be_several_or_none_is_refused(app: Flask, user: str) -> None:
    sent = user.encode().decode("latin-1")
    answer = app.test_client().get("/workers", environ_overrides={"REMOTE_ADDR": PROXY, "HTTP_X_FORWARDED_EMAIL": sent})
    assert (answer.status_code, "cannot be read" in answer.text) == (403, True)


def test_a_request_without_the_header_is_not_signed_in(app: Flask) -> None:
    for user in (None, ""):
        answer = ask(app.test_client(), user=user)
        assert (answer.status_code, "The proxy sent no X-Forwarded-Email header." in answer.text) == (403, True)
    answer = ask(app.test_client(), "/api/v1/overview", groups="ops")
    assert (answer.status_code, answer.get_json()["error"]["message"]) == (403, "You are not signed in.")
    assert ask(app.test_client(), "/healthz").status_code == 200
    assert ask(app.test_client(), "/login").status_code == 404


def test_groups_may_have_another_separator(make_app: MakeApp) -> None:
    client = make_app(auth="auto", proxy_sign_in={**SIGN_IN, "groups_separator": "|"}).test_client()
    assert '<span title="operator">' in ask(client, user="ben", groups="staff|ops").text
    assert ask(client, user="ben", groups="staff,ops").status_code == 403


def test_many_groups_are_read_and_too_many_are_cut(app: Flask) -> None:
    assert ask(app.test_client(), user="ben", groups="other," * 5_000 + "ops").status_code == 200
    assert ask(app.test_client(), user="ben", groups="other," * 50_000 + "ops").status_code == 403


def test_changes_still_have_to_come_from_a_page(app: Flask) -> None:
    environ = {"REMOTE_ADDR": PROXY, "HTTP_X_FORWARDED_EMAIL": "anna@example.com"}
    client = app.test_client()
    for headers, status in (({}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), (SAME, 201)):
        answer = client.post("/api/v1/marks", json={"text": "v1"}, headers=headers, environ_overrides=environ)
        assert answer.status_code == status, headers
    assert client.post("/api/v1/marks", json={"text": "v1"}, headers=SAME).status_code == 403


def test_the_audit_log_names_the_user(app: Flask) -> None:
    environ = {"REMOTE_ADDR": PROXY, "HTTP_X_FORWARDED_EMAIL": "anna@example.com"}
    with app.test_client() as client:
        answer = client.post("/api/v1/queues/main/rq/mail/pause", json={}, headers=SAME, environ_overrides=environ)
        assert answer.status_code in (200, 404)
        (event, *_) = app_services().action_service.audit_log.list_page().events
    assert (event.who, event.role) == ("anna@example.com", "admin")


def test_tokens_work_beside_it(make_app: MakeApp) -> None:
    client = make_app(auth="auto", proxy_sign_in=SIGN_IN, api_tokens=[TOKEN]).test_client()
    for peer in (PROXY, "198.51.100.7"):
        answer = ask(client, "/api/v1/overview", peer=peer, user="anna@example.com", Authorization="Bearer let me in")
        assert answer.status_code == 200
        answer = ask(client, "/api/v1/audit", peer=peer, user="anna@example.com", Authorization="Bearer let me in")
        assert answer.status_code == 403
        answer = ask(client, "/api/v1/overview", peer=peer, user="anna@example.com", Authorization="Bearer wrong")
        assert answer.status_code == 401


@pytest.mark.parametrize("url", ["/oauth2/sign_out", "https://login.example.com/bye?a=1&b=2", None])
def test_the_page_links_to_where_the_proxy_signs_out(make_app: MakeApp, url: str | None) -> None:
    settings = SIGN_IN | ({"sign_out_url": url} if url else {})
    page = ask(make_app(auth="auto", proxy_sign_in=settings).test_client(), user="anna@example.com").text
    assert ">anna@example.com</span>" in page
    assert ("Sign out</a>" in page) == bool(url)
    assert "/logout" not in page
    if url:
        assert f'href="{url.replace("&", "&amp;")}"' in page


def test_the_printed_token_and_other_sign_ins_are_off(make_app: MakeApp) -> None:
    client = make_app(auth="auto", proxy_sign_in=SIGN_IN, start_token="t" * 43).test_client()
    assert client.get(f"/?token={'t' * 43}").status_code == 403
    with pytest.raises(ConfigurationError, match="expected either identify or proxy_sign_in, not both"):
        create_app(proxy_sign_in=SIGN_IN, identify=lambda _environ: Identity(name="a"), checker="off")
    client = make_app(auth="auto", proxy_sign_in=SIGN_IN, trusted_hosts=["queues.example.com"]).test_client()
    assert ask(client, user="anna@example.com", Host="queues.example.com").status_code == 200
    assert ask(client, user="anna@example.com", Host="evil.example").status_code == 403


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"peers": []}, 'peers: expected the addresses or networks of the proxies, or "unix"'),
        ({"peers": ["proxy.internal"]}, "peers: 'proxy.internal': expected an address, a network such as 10.0.0.0/24"),
        ({"peers": ["127.0.0.1/8"]}, "peers: '127.0.0.1/8': expected an address, a network such as 10.0.0.0/24"),
        ({"peers": [PROXY, "0.0.0.0/1"]}, "peers: '0.0.0.0/1': expected a network of proxies only, at most /8"),
        ({"peers": ["unix", "::/0"]}, "peers: '::/0': expected a network of proxies only, at most /16"),
        ({"user_header": "X_Forwarded_User"}, "user_header: expected the name of a header"),
        ({"user_header": "Authorization"}, "user_header: expected the name of a header"),
        ({"user_header": "x-forwarded-for"}, "user_header: expected the name of a header"),
        ({"user_header": "Accept-Language"}, "user_header: expected the name of a header"),
        ({"user_header": "Sec-Fetch-Site"}, "user_header: expected the name of a header"),
        ({"groups_header": "Cookie"}, "groups_header: expected the name of a header"),
        ({"groups_header": "x-forwarded-email"}, "groups_header: expected another header than user_header"),
        ({"groups_header": None}, "group_roles: expected both groups_header and group_roles, or neither"),
        ({"group_roles": {}}, "group_roles: expected both groups_header and group_roles, or neither"),
        ({"groups_separator": ""}, "groups_separator: expected one character"),
        ({"user_roles": {}, "group_roles": {}, "groups_header": None}, "default_role: expected user_roles"),
        ({"sign_out_url": "javascript:alert(1)"}, "sign_out_url: expected a path"),
        ({"sign_out_url": "//evil.example"}, "sign_out_url: expected a path"),
        ({"sign_out_url": "oauth2/sign_out"}, "sign_out_url: expected a path"),
        ({"sign_out_url": "/\\evil.example"}, "sign_out_url: expected a path"),
        ({"sign_out_url": "https://anna:secret@login.example.com/"}, "sign_out_url: expected a path"),
        ({"user_roles": {"anna": "owner"}}, 'user_roles: \'anna\': expected "viewer", "operator" or "admin"'),
        ({"default_role": "owner"}, "default_role"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_invalid_settings_stop_the_start(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(environ={"QUEUEDECK_PROXY_SIGN_IN": json.dumps(SIGN_IN | changed)})
    assert "QUEUEDECK_PROXY_SIGN_IN" in raised.value.message
    assert expected.lower() in raised.value.message.lower()
    assert "\n" not in raised.value.message
    assert "secret@" not in raised.value.message


def test_other_sign_ins_and_this_one_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match=r'auth: expected "auto" with proxy_sign_in'):
        load(environ={}, keywords={"auth": "none", "proxy_sign_in": SIGN_IN})
    user = {"name": "a", "password_hash": "scrypt:2:1:1$a$" + "0" * 128}
    with pytest.raises(ConfigurationError, match="expected either users or proxy_sign_in, not both"):
        load(environ={}, keywords={"secret_key": "k" * 32, "users": [user], "proxy_sign_in": SIGN_IN})
    with pytest.raises(ConfigurationError, match="QUEUEDECK_PROXY_SIGN_IN: expected a JSON object"):
        load(environ={"QUEUEDECK_PROXY_SIGN_IN": "anna"})


def test_the_effective_settings_can_be_shown_and_passed_on() -> None:
    settings = load(environ={}, keywords={"proxy_sign_in": SIGN_IN})
    assert load(environ={}, keywords={"proxy_sign_in": settings.proxy_sign_in}) == settings
    (line,) = (line for line in describe(settings) if "proxy_sign_in" in line)
    assert '"user_header":"X-Forwarded-Email"' in line
    assert '"anna@example.com":"admin"' in line


def test_a_grant_gives_access_without_a_role(make_app: MakeApp) -> None:
    grants = [{"groups": ["mail-team"], "queues": ["mail-*"], "allow": ["view"]}, {"users": ["x"], "deny": ["view"]}]
    app = make_app(auth="auto", proxy_sign_in=SIGN_IN, grants=grants)
    client = app.test_client()
    shown = ask(client, "/rights/me", user="ben@example.com", groups="none, mail-team")
    assert shown.status_code == 200
    assert "ben@example.com" in shown.text
    assert ask(client, "/redis", user="ben@example.com", groups="mail-team").status_code == 403
    assert ask(client, "/redis", user="ben@example.com", groups="none").status_code == 403
    assert ask(client, user="ben@example.com", groups="none").status_code == 403
    assert ask(client, user="x").status_code == 403  # a denial gives no access
    assert ask(client, "/redis", user="anna@example.com", groups="mail-team").status_code == 200  # an administrator
