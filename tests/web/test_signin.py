"""Local users: sign-in, sessions that end, five tries, and what each role may do."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from dashboard.cli import main
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.web import security, sessions, signin
from tests.web.conftest import MakeApp

SECRET = "k" * 40
HASHES = {name: generate_password_hash(f"password of {name}", "scrypt:1024:8:1") for name in ("vera", "otto", "ada")}
ROLES = {"vera": "viewer", "otto": "operator", "ada": "admin"}
SAME = {"Sec-Fetch-Site": "same-origin"}


def users(**hashes: str) -> list[dict[str, str]]:
    return [
        {"name": name, "password_hash": hashes.get(name, HASHES[name]), "role": role} for name, role in ROLES.items()
    ]


@pytest.fixture(autouse=True)
def fresh_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "_tries", sessions.Tries())


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Flask:
    return make_app(users=users(), secret_key=SECRET)


def sign_in(client: FlaskClient, name: str, password: str | None = None, **form: str) -> Any:
    form = {"name": name, "password": password or f"password of {name}", **form}
    return client.post("/login", data=form, headers=SAME)


def test_a_page_leads_to_the_form_and_back(app: Flask) -> None:
    client = app.test_client()
    response = client.get("/workers?q=a")
    assert response.status_code == 303
    assert response.headers["Location"] == "/login?next=/workers?q%3Da"
    assert 'value="/workers?q=a"' in client.get(response.headers["Location"]).text
    response = sign_in(client, "vera", next="/workers?q=a")
    assert (response.status_code, response.headers["Location"]) == (303, "/workers?q=a")
    assert client.get("/workers").status_code == 200
    cookie = response.headers["Set-Cookie"]
    assert re.match(r"queuedeck=[^;]+; HttpOnly; Path=/; SameSite=Lax\Z", cookie)


def test_the_cookie_is_for_the_path_of_the_dashboard_and_secure_on_https(app: Flask) -> None:
    client = app.test_client()
    form = {"name": "vera", "password": "password of vera"}
    response = client.post(
        "/login",
        data=form,
        headers=SAME,
        base_url="https://localhost/queues",
        environ_overrides={"SCRIPT_NAME": "/queues"},
    )
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Secure-queuedeck=")
    assert "; Secure; HttpOnly; Path=/queues; SameSite=Lax" in cookie
    assert response.headers["Location"] == "/queues/"


@pytest.mark.parametrize("path", ["/api/v1/overview", "/_overview"])
def test_a_script_or_a_fragment_is_told_so_instead(app: Flask, path: str) -> None:
    headers = {"HX-Request": "true"} if path.startswith("/_") else {}
    response = app.test_client().get(path, headers=headers)
    assert response.status_code == 401
    assert "signed in" in response.text


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "/a\nb", "", "javascript:x"]
)
def test_next_leads_nowhere_else(app: Flask, target: str) -> None:
    response = sign_in(app.test_client(), "vera", next=target)
    assert response.headers["Location"] == "/"


@pytest.mark.parametrize(("name", "password"), [("vera", "wrong"), ("nobody", "password of vera"), ("", "")])
def test_a_wrong_name_and_a_wrong_password_are_told_apart_by_nothing(app: Flask, name: str, password: str) -> None:
    response = app.test_client().post("/login", data={"name": name, "password": password}, headers=SAME)
    assert response.status_code == 403
    assert signin.WRONG in response.text
    assert "Set-Cookie" not in response.headers


def test_after_five_slips_even_the_right_password_waits(app: Flask, redis_client: redis.Redis) -> None:
    client = app.test_client()
    for _ in range(sessions.TRIES):
        assert sign_in(client, "vera", "wrong").status_code == 403
    assert sign_in(client, "vera").status_code == 429
    assert sign_in(client, "otto").status_code == 303
    (key,) = redis_client.keys("{queuedeck}:tries:*")
    assert 0 < redis_client.ttl(key) <= sessions.TRIES_WINDOW_S


def test_slips_are_counted_without_redis_and_lock_nobody_out(make_app: MakeApp) -> None:
    app = make_app(users=users(), secret_key=SECRET, redis_url="redis://127.0.0.1:1/0")
    client = app.test_client()
    assert sign_in(client, "otto").status_code == 303
    for _ in range(sessions.TRIES):
        assert sign_in(client, "vera", "wrong").status_code == 403
    assert sign_in(client, "vera").status_code == 429


@pytest.mark.parametrize("change", ["password", "role", "gone", "key"])
def test_a_session_ends_when_what_it_stands_on_changes(make_app: MakeApp, app: Flask, change: str) -> None:
    client = app.test_client()
    sign_in(client, "otto")
    assert client.get("/workers").status_code == 200
    changed = users(otto=generate_password_hash("another", "scrypt:1024:8:1")) if change == "password" else users()
    if change == "role":
        changed[1]["role"] = "admin"
    if change == "gone":
        del changed[1]
    later = make_app(users=changed, secret_key="n" * 40 if change == "key" else SECRET)
    assert with_cookies_of(client, later).get("/workers").status_code == 303


def test_a_former_key_keeps_sessions_valid(make_app: MakeApp, app: Flask) -> None:
    client = app.test_client()
    sign_in(client, "otto")
    later = make_app(users=users(), secret_key="n" * 40, secret_key_fallbacks=[SECRET])
    assert with_cookies_of(client, later).get("/workers").status_code == 200


def with_cookies_of(client: FlaskClient, app: Flask) -> FlaskClient:
    cookie = client.get_cookie("queuedeck")
    assert cookie is not None
    other = app.test_client()
    other.set_cookie("queuedeck", cookie.value)
    return other


@pytest.mark.parametrize("after_s", [sessions.IDLE_S, sessions.ABSOLUTE_S])
def test_a_session_ends_by_the_clock(app: Flask, monkeypatch: pytest.MonkeyPatch, after_s: int) -> None:
    client = app.test_client()
    sign_in(client, "vera")
    begun = sessions.now_s()
    at = 0
    if after_s == sessions.ABSOLUTE_S:
        while at < after_s - sessions.IDLE_S / 2:  # in use all the time
            at += sessions.IDLE_S // 2
            monkeypatch.setattr(sessions, "now_s", lambda at=at: begun + at)
            assert client.get("/workers").status_code == (200 if at < after_s else 303)
    monkeypatch.setattr(sessions, "now_s", lambda: begun + after_s + 1)
    assert client.get("/workers").status_code == 303


def test_signing_out_ends_the_session(app: Flask) -> None:
    client = app.test_client()
    sign_in(client, "vera")
    assert client.post("/logout", headers=SAME).status_code == 303
    assert client.get("/workers").status_code == 303


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
@pytest.mark.parametrize("path", ["/login", "/logout", "/undo", "/bulk"])
def test_nothing_is_changed_for_another_site(app: Flask, headers: dict[str, str], path: str) -> None:
    client = app.test_client()
    sign_in(client, "ada")
    assert client.post(path, data={}, headers=headers).status_code == 403
    assert client.get("/workers").status_code == 200


WRITES = [
    "/alerts/0123/ack",
    "/silences",
    "/silences/0123/expire",
    "/deliveries/again",
    "/deliveries/dismiss",
    "/alerts/rules",
    "/alerts/rule/deep/edit",
    "/alerts/rule/deep/switch",
    "/alerts/rule/deep/remove",
    "/api/v1/rules",
    "/api/v1/rules/deep/disable",
    "/api/v1/rules/deep/delete",
    "/channels/ops/test",
    "/undo",
    "/bulk",
    "/bulk/0123/pause",
    "/queues/main/rq/mail/act",
    "/queues/main/rq/mail/queue",
    "/queues/main/rq/mail/jobs/x/act",
    "/schedules/act",
    "/workers/act",
    "/dead/0123456789abcdef/note",
    "/dead/0123456789abcdef/act",
    "/api/v1/bulk",
    "/api/v1/undo/x",
    "/api/v1/bulk/0123/pause",
    "/api/v1/queues/main/rq/mail/pause",
    "/api/v1/queues/main/rq/mail/jobs/x/retry",
]


@pytest.mark.parametrize("path", WRITES)
def test_a_viewer_changes_nothing(app: Flask, jobs: list[str], path: str) -> None:
    client = app.test_client()
    sign_in(client, "vera")
    response = client.post(path, data={}, headers=SAME)
    assert response.status_code == 403
    assert re.search("needs the role (operator|admin)", response.text)


def test_every_write_is_listed_above(app: Flask) -> None:
    rules = {
        re.sub(r"<[^>]*>", "*", rule.rule)
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and not rule.endpoint.startswith("signin.")
    }
    asked = [path.strip("/").split("/") for path in WRITES]
    for rule in rules:
        parts = rule.strip("/").split("/")
        assert any(
            len(parts) == len(path) and all(part in ("*", given) for part, given in zip(parts, path, strict=True))
            for path in asked
        ), f"{rule} is not tried as a viewer"


def test_only_an_admin_reads_the_audit(app: Flask) -> None:
    for name, status in (("vera", 403), ("otto", 403), ("ada", 200)):
        client = app.test_client()
        sign_in(client, name)
        assert client.get("/audit").status_code == status
        assert client.get("/api/v1/audit").status_code == status
        assert ("/audit" in client.get("/workers").text) == (status == 200)


def test_in_read_only_mode_the_routes_are_not_there(make_app: MakeApp, jobs: list[str]) -> None:
    client = make_app(read_only=True).test_client()
    for path in WRITES:
        assert client.post(path, data={}, headers=SAME).status_code in (404, 405), path
    page = client.get("/queues/main/rq/mail?state=waiting").text
    assert 'method="post"' not in page
    assert "data-tick" not in page


def test_a_token_acts_by_its_role_without_a_page(make_app: MakeApp, jobs: list[str]) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    path = f"/api/v1/queues/main/rq/mail/jobs/{jobs[0]}/delete"
    for role, allowed in (("viewer", False), ("operator", True)):
        client = make_app(api_tokens=[f"ci:{role}:{digest}"]).test_client()
        response = client.post(path, headers={"Authorization": "Bearer right"})
        assert (response.status_code != 403 or "needs the role" not in response.text) == allowed


def test_users_need_a_key_and_a_hash_of_ours() -> None:
    with pytest.raises(ConfigurationError, match="secret_key is needed"):
        load(environ={}, keywords={"users": users()})
    with pytest.raises(ConfigurationError, match="password_hash: expected what"):
        load(environ={}, keywords={"users": users(vera="plain"), "secret_key": SECRET})
    with pytest.raises(ConfigurationError, match="each user once"):
        load(environ={}, keywords={"users": users()[:1] * 2, "secret_key": SECRET})


def test_the_command_prints_a_hash_that_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setattr("sys.stdin", open_text("correct horse battery\n"))
    assert main(["hash-password"]) == 0
    printed = capsys.readouterr().out.strip()
    settings = load(environ={}, keywords={"users": users(vera=printed)[:1], "secret_key": SECRET})
    assert sessions.check(settings, "vera", "correct horse battery") == settings.users[0]
    assert sessions.check(settings, "vera", "correct horse") is None
    monkeypatch.setattr("sys.stdin", open_text("short\n"))
    assert main(["hash-password"]) == 2


def open_text(text: str) -> Any:
    import io

    return io.StringIO(text)


def test_every_blueprint_has_a_role(app: Flask) -> None:
    assert {rule.endpoint.partition(".")[0] for rule in app.url_map.iter_rules()} <= set(security.ROLES)
