"""Closed by default, and headers that keep a browser from being used against us."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from dashboard import Identity, Role
from dashboard.errors import ConfigurationError
from dashboard.web import security
from tests.web.conftest import MakeApp

PAGES = ["/", "/_overview", "/api/v1/overview", "/queues/main/rq/mail"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "environ",
    [
        {"REMOTE_ADDR": "10.1.2.3"},
        {"HTTP_HOST": "evil.example"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
    ],
)
def test_a_stranger_gets_403_and_the_line_to_configure(
    client: FlaskClient, jobs: list[str], path: str, environ: dict[str, Any]
) -> None:
    response = client.get(path, environ_overrides=environ)
    assert response.status_code == 403
    assert "mail" not in response.text.replace(path, "")
    if not path.startswith("/api"):
        assert "QUEUEDECK_API_TOKENS" in response.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_answer_anybody(client: FlaskClient, path: str) -> None:
    response = client.get(path, environ_overrides={"REMOTE_ADDR": "10.1.2.3"})
    assert response.status_code == 200
    assert response.get_json() == {"status": "ok"}


def test_a_token_opens_the_api_from_elsewhere_and_a_wrong_one_not_even_here(make_app: MakeApp) -> None:
    token = "ci:viewer:" + hashlib.sha256(b"right").hexdigest()
    client = make_app(api_tokens=[token]).test_client()
    elsewhere = {"REMOTE_ADDR": "10.1.2.3"}
    right, wrong = {"Authorization": "Bearer right"}, {"Authorization": "Bearer wrong"}
    assert client.get("/api/v1/overview", headers=right, environ_overrides=elsewhere).status_code == 200
    assert client.get("/api/v1/overview", headers=wrong, environ_overrides=elsewhere).status_code == 403
    assert client.get("/api/v1/overview", headers=wrong).status_code == 403


def test_a_host_application_tells_who_asks(make_app: MakeApp) -> None:
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
def test_a_change_must_be_asked_for_by_a_page_of_ours(
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
        security.install(app, None)


@pytest.mark.parametrize("path", [*PAGES, "/healthz", "/nothing", "/static/nothing.css"])
def test_every_answer_carries_the_headers(client: FlaskClient, jobs: list[str], path: str) -> None:
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


def test_an_error_nobody_foresaw_shows_no_stack(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    def broken() -> str:
        raise RuntimeError("secret detail")

    app.add_url_rule("/api/v1/broken", "api.broken", broken)
    response = app.test_client().get("/api/v1/broken")
    assert response.status_code == 500
    assert "secret detail" not in response.text
    assert response.get_json()["error"]["code"] == "internal"
    assert "secret detail" in caplog.text
