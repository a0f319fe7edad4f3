"""Closed by default, and headers that keep a browser from being used against us."""

from __future__ import annotations

import hashlib
import re
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from dashboard import Identity, Role
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.web.access import security
from tests.cases import failures_of
from tests.web.conftest import MakeApp

CI = "ci:viewer:" + hashlib.sha256(b"right").hexdigest()
ADA = {"name": "ada", "password_hash": generate_password_hash("password", "scrypt:1024:8:1"), "role": "admin"}
PAGES = ["/", "/_overview", "/api/v1/overview", "/queues/main/rq/mail", "/redis"]


REMOTE: list[dict[str, Any]] = [
    {"REMOTE_ADDR": "10.1.2.3"},
    {"HTTP_HOST": "evil.example"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
    {"HTTP_FORWARDED": "for=127.0.0.1"},
    {"SERVER_PROTOCOL": "HTTP/1.0"},
]


def test_without_sign_in_a_remote_client_gets_403_and_the_setting_to_add(client: FlaskClient, jobs: list[str]) -> None:
    def check(path: str, environ: dict[str, Any]) -> None:
        response = client.get(path, environ_overrides=environ)
        assert response.status_code == 403
        assert "mail" not in response.text.replace(path, "")
        if not path.startswith("/api"):
            assert "api_tokens" in response.text

    assert failures_of(check, product(PAGES, REMOTE)) == {}


TOKEN = "a token of this start, which nobody can guess"


@pytest.mark.parametrize("settings", [{}, {"start_token": TOKEN}, {"api_tokens": [CI]}, {"read_only": True}])
def test_no_address_grants_access(make_app: MakeApp, settings: dict[str, Any]) -> None:
    """Behind the plainest reverse proxy, everybody comes from this machine."""
    app = make_app(**{"auth": "auto"} | settings)

    def check(path: str) -> None:
        response = app.test_client().get(path)
        assert response.status_code == 403
        assert "token" in response.text

    assert failures_of(check, [(path,) for path in (*PAGES, "/audit", "/workers", "/api/v1/openapi.json")]) == {}


def test_being_local_is_not_enough_to_change_anything(make_app: MakeApp, jobs: list[str]) -> None:
    client = make_app(auth="auto").test_client()
    for path in ("/api/v1/queues/main/rq/mail/pause", f"/api/v1/queues/main/rq/mail/jobs/{jobs[0]}/delete"):
        assert client.post(path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 403


def test_the_printed_url_gives_a_browser_access(make_app: MakeApp, jobs: list[str]) -> None:
    client = make_app(start_token=TOKEN).test_client()
    page = client.get("/workers?q=a%26b&token=" + quote(TOKEN))
    assert (page.status_code, page.headers["Location"]) == (303, "/workers?q=a%26b")
    assert page.headers["Cache-Control"] == "no-store"
    assert TOKEN not in page.headers["Set-Cookie"]
    assert "; HttpOnly; Path=/; SameSite=Lax" in page.headers["Set-Cookie"]
    assert client.get("/workers?q=a%26b").status_code == 200
    assert (
        client.post("/api/v1/queues/main/rq/mail/pause", headers={"Sec-Fetch-Site": "same-origin"}).status_code != 403
    )
    assert client.post("/api/v1/queues/main/rq/mail/pause", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_wrong_tokens_and_sessions_of_earlier_starts_are_rejected(make_app: MakeApp) -> None:
    before, now = make_app(start_token=TOKEN), make_app(start_token=TOKEN + "2")
    client = before.test_client()
    assert client.get("/?token=" + quote(TOKEN)).status_code == 303
    other = now.test_client()
    cookie = client.get_cookie("queuedeck-80")
    assert cookie is not None
    other.set_cookie("queuedeck-80", cookie.value)
    assert other.get("/").status_code == 403
    for wrong in (TOKEN, "", "\udcff", TOKEN[:-1]):
        assert other.get("/?token=" + quote(wrong, errors="surrogateescape")).status_code == 403
    assert other.post("/login?token=" + quote(TOKEN + "2")).status_code == 403


def test_only_the_token_is_removed_from_the_url(make_app: MakeApp) -> None:
    client = make_app(start_token=TOKEN).test_client()
    for path, query in (("/queues/main/rq/a%2Fb", "state=dead&q=%2B"), ("/search", ""), ("//evil.example/", "")):
        page = client.get(f"{path}?{query}&token={quote(TOKEN)}")
        assert page.status_code == 303
        wanted = f"{path}?{query}" if query else path
        assert page.headers["Location"] == (wanted if not path.startswith("//") else "/")


@pytest.mark.parametrize("path", ["/healthz", "/static/queuedeck.css"])
def test_public_routes_ignore_a_wrong_token(make_app: MakeApp, path: str) -> None:
    assert make_app(start_token=TOKEN).test_client().get(f"{path}?token=wrong").status_code == 200


def test_two_dashboards_on_one_host_have_separate_sessions(make_app: MakeApp) -> None:
    """Cookies do not know ports."""
    client = make_app(start_token=TOKEN).test_client()
    set_by = [
        client.get("/?token=" + quote(TOKEN), environ_overrides={"SERVER_PORT": port}).headers["Set-Cookie"]
        for port in ("9181", "9182")
    ]
    assert [cookie.partition("=")[0] for cookie in set_by] == ["queuedeck-9181", "queuedeck-9182"]


@pytest.mark.parametrize("settings", [{"identify": lambda _environ: None}, {"users": [ADA], "secret_key": "k" * 40}])
def test_there_is_no_start_token_with_users(make_app: MakeApp, settings: dict[str, Any]) -> None:
    client = make_app(start_token=TOKEN, **settings).test_client()
    client.get("/?token=" + quote(TOKEN))
    assert client.get("/api/v1/overview").status_code in (401, 403)


def test_without_a_sign_in_every_page_says_so(make_app: MakeApp, client: FlaskClient) -> None:
    for path in ("/", "/workers", "/alerts"):
        assert "Sign-in is disabled" in client.get(path).text
    other = make_app(start_token=TOKEN).test_client()
    other.get("/?token=" + quote(TOKEN))
    assert "Sign-in is disabled" not in other.get("/").text


@pytest.mark.parametrize("answer", ["ada", 5, object()])
def test_what_identify_answers_must_be_an_identity(make_app: MakeApp, answer: object) -> None:
    response = make_app(identify=lambda _environ: answer).test_client().get("/")
    assert response.status_code == 500
    assert f"identify returned a {type(answer).__name__}: expected an Identity or None" in response.text


def test_a_host_name_grants_no_access(make_app: MakeApp) -> None:
    with pytest.raises(ConfigurationError, match="trusted_hosts requires users, oidc, proxy_sign_in or identify"):
        make_app(trusted_hosts=["queues.example.com"])
    with pytest.raises(ConfigurationError, match="identify must be a callable"):
        make_app(identify=5)


def test_with_trusted_hosts_other_names_are_rejected(make_app: MakeApp) -> None:
    app = make_app(trusted_hosts=["Queues.Example.com"], identify=lambda _environ: Identity(name="ada"))
    for host, status in (("Queues.example.COM:80", 200), ("localhost:9181", 200), ("evil.example", 403)):
        assert app.test_client().get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_are_public(client: FlaskClient, path: str) -> None:
    response = client.get(path, environ_overrides={"REMOTE_ADDR": "10.1.2.3"})
    assert response.status_code == 200
    assert response.get_json() == {"status": "ok"}


def test_an_api_token_works_remotely_and_a_wrong_one_not_even_locally(make_app: MakeApp) -> None:
    token = "ci:viewer:" + hashlib.sha256(b"right").hexdigest()
    client = make_app(api_tokens=[token]).test_client()
    elsewhere = {"REMOTE_ADDR": "10.1.2.3"}
    right, wrong = {"Authorization": "Bearer right"}, {"Authorization": "Bearer wrong"}
    assert client.get("/api/v1/overview", headers=right, environ_overrides=elsewhere).status_code == 200
    for environ in (elsewhere, {}):
        refused = client.get("/api/v1/overview", headers=wrong, environ_overrides=environ)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_host_application_identifies_the_user(make_app: MakeApp) -> None:
    def identify(environ: Any) -> Identity | None:
        name = environ.get("HTTP_X_TEST_USER")
        return Identity(name=name, role=Role.VIEWER) if name else None

    client = make_app(identify=identify).test_client()
    elsewhere = {"REMOTE_ADDR": "10.1.2.3"}
    assert client.get("/", environ_overrides=elsewhere).status_code == 403
    assert client.get("/", headers={"X-Test-User": "ada"}, environ_overrides=elsewhere).status_code == 200
    assert client.get("/").status_code == 403  # being on this machine is no sign-in any more


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://localhost"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_changes_must_come_from_a_page_of_the_dashboard(
    make_app: MakeApp, headers: dict[str, str], allowed: bool
) -> None:
    app = make_app()
    app.add_url_rule("/change", "api.change", lambda: "done", methods=["POST"])
    response = app.test_client().post("/change", headers=headers)
    assert response.status_code == (200 if allowed else 403)


def test_a_route_without_a_role_stops_the_start(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/new", "new", lambda: "new")
    with pytest.raises(ConfigurationError, match="/new"):
        security.install(app, security.Authenticator(load(environ={}), None, None))


@pytest.mark.parametrize("path", [*PAGES, "/healthz", "/nothing", "/static/nothing.css"])
def test_every_response_has_the_security_headers(client: FlaskClient, jobs: list[str], path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe" not in policy
    directives = {name: values for name, *values in map(str.split, policy.split(";"))}
    assert directives["default-src"] == directives["base-uri"] == directives["frame-ancestors"] == ["'none'"]
    assert directives["form-action"] == directives["connect-src"] == directives["style-src"] == ["'self'"]
    assert headers["X-Frame-Options"] == "DENY"  # for browsers that do not know frame-ancestors
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "require-trusted-types-for 'script'; trusted-types htmx" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_each_page_has_a_nonce_of_its_own_and_uses_it(client: FlaskClient) -> None:
    seen = set()
    for _ in range(3):
        response = client.get("/")
        nonce = re.search(r"'nonce-([^']+)'", response.headers["Content-Security-Policy"])
        assert nonce is not None
        assert f'nonce="{nonce[1]}"' in response.text
        seen.add(nonce[1])
    assert len(seen) == 3


def test_an_unexpected_error_shows_no_stack_trace(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    def broken() -> str:
        raise RuntimeError("secret detail")

    app.add_url_rule("/api/v1/broken", "api.broken", broken)
    response = app.test_client().get("/api/v1/broken")
    assert response.status_code == 500
    assert "secret detail" not in response.text
    assert response.get_json()["error"]["code"] == "internal"
    assert "secret detail" in caplog.text
