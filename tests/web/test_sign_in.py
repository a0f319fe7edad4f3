"""Local users: sign-in, the end of sessions, five attempts, and what each role can do."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from dashboard.cli import main
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from dashboard.web.access import refusals, sessions, sign_in_limits
from dashboard.web.access.user_names import UNKNOWN_USER
from dashboard.web.context import app_services
from dashboard.web.pages.sign_in import passwords as sign_in_page
from dashboard.web.rights.routes import ROUTES
from tests.waiting import CEILING_S, wait_until
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
def fresh_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_page, "_attempts", sign_in_limits.AttemptCounter())
    monkeypatch.setattr(sessions, "_NOBODY", HASHES["ada"].rpartition("$")[0] + "$" + "0" * 128)  # as cheap as theirs


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Flask:
    return make_app(users=users(), secret_key=SECRET)


def sign_in(client: FlaskClient, name: str, password: str | None = None, **form: str) -> Any:
    form = {"name": name, "password": password or f"password of {name}", **form}
    return client.post("/login", data=form, headers=SAME)


def test_a_page_redirects_to_the_form_and_back(app: Flask) -> None:
    client = app.test_client()
    response = client.get("/workers?q=a")
    assert response.status_code == 303
    assert response.headers["Location"] == "/login?next=/workers?q%3Da"
    assert 'value="/workers?q=a"' in client.get(response.headers["Location"]).text
    response = sign_in(client, "vera", next="/workers?q=a")
    assert (response.status_code, response.headers["Location"]) == (303, "/workers?q=a")
    assert client.get("/workers").status_code == 200
    known, cookie = response.headers.getlist("Set-Cookie")
    assert re.match(r"queuedeck=[^;]+; HttpOnly; Path=/; SameSite=Lax\Z", cookie)
    assert re.match(r"queuedeck-known=[^;]+; Expires=[^;]+; Max-Age=15552000; HttpOnly; Path=/; SameSite=Lax\Z", known)


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
    known, cookie = response.headers.getlist("Set-Cookie")
    assert cookie.startswith("__Secure-queuedeck=")
    for each in (known, cookie):
        assert "; Secure; HttpOnly; Path=/queues; SameSite=Lax" in each
    assert response.headers["Location"] == "/queues/"


@pytest.mark.parametrize("path", ["/api/v1/overview", "/charts/_data", "/_overview"])
def test_scripts_and_fragments_get_an_error_instead_of_the_form(app: Flask, path: str) -> None:
    headers = {"HX-Request": "true"} if path.startswith("/_") else {}
    response = app.test_client().get(path, headers=headers)
    assert response.status_code == 401
    assert ("Reload the page to sign in." if headers else "You are not signed in.") in response.text


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil",
        "/a\nb",
        "",
        "javascript:x",
        "/../evil",
        "/%2e%2E/evil",
        "/a/./b?c",
    ],
)
def test_next_never_redirects_to_another_site(app: Flask, target: str) -> None:
    response = sign_in(app.test_client(), "vera", next=target)
    assert response.headers["Location"] == "/"


@pytest.mark.parametrize(("name", "password"), [("vera", "wrong"), ("nobody", "password of vera"), ("", "")])
def test_a_wrong_name_and_a_wrong_password_look_the_same(app: Flask, name: str, password: str) -> None:
    response = app.test_client().post("/login", data={"name": name, "password": password}, headers=SAME)
    assert response.status_code == 403
    assert sign_in_page.WRONG in response.text
    assert "Set-Cookie" not in response.headers


def test_after_five_failures_even_the_right_password_is_rejected(app: Flask, redis_client: redis.Redis) -> None:
    client = app.test_client()
    for _ in range(sign_in_limits.PER_NAME_AND_ADDRESS):
        assert sign_in(client, "vera", "wrong").status_code == 403
    refused = sign_in(client, "vera")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == str(sign_in_limits.WINDOW_S)
    assert sign_in(client, "otto").status_code == 303
    keys = list(redis_client.scan_iter("{queuedeck}:tries:*"))
    assert keys
    assert all(0 < redis_client.ttl(key) <= sign_in_limits.WINDOW_S for key in keys)


def test_failures_are_counted_without_redis_and_lock_no_one_out(make_app: MakeApp) -> None:
    app = make_app(users=users(), secret_key=SECRET, redis_url="redis://127.0.0.1:1/0")
    client = app.test_client()
    assert sign_in(client, "otto").status_code == 303
    assert client.get("/workers").status_code == 200
    for _ in range(sign_in_limits.PER_NAME_AND_ADDRESS):
        assert sign_in(client, "vera", "wrong").status_code == 403
    assert sign_in(client, "vera").status_code == 429


def test_an_attacker_cannot_lock_out_a_known_browser(app: Flask) -> None:
    """Behind a proxy that is not trusted everybody has one address."""
    vera, stranger = app.test_client(), app.test_client()
    assert sign_in(vera, "vera").status_code == 303
    vera.post("/logout", headers=SAME)
    for _ in range(sign_in_limits.PER_ADDRESS + 1):
        sign_in(stranger, "vera", "guess")
    assert sign_in(stranger, "vera").status_code == 429
    assert sign_in(vera, "vera", "a slip").status_code == 403
    assert sign_in(vera, "vera").status_code == 303


def test_a_known_browser_has_five_attempts_for_its_own_user(app: Flask) -> None:
    client = app.test_client()
    sign_in(client, "vera")
    for _ in range(sign_in_limits.PER_BROWSER):
        assert sign_in(client, "vera", "guess").status_code == 403
    assert sign_in(client, "vera").status_code == 429
    for _ in range(sign_in_limits.PER_NAME_AND_ADDRESS):
        assert sign_in(app.test_client(), "ada", "guess").status_code == 403
    assert sign_in(client, "ada").status_code == 429


def test_a_forged_browser_cookie_is_ignored(app: Flask) -> None:
    client = app.test_client()
    for _ in range(sign_in_limits.PER_NAME_AND_ADDRESS):
        sign_in(client, "vera", "guess")
    for forged in ('["vera","x"]', "", "x.y", "\udcff"):
        client.set_cookie(sessions.KNOWN_BROWSER, forged.encode("utf-8", "backslashreplace").decode())
        assert sign_in(client, "vera").status_code == 429


def test_the_address_limit_applies_before_passwords_are_hashed(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(sessions, "check_password", lambda _settings, name, _password: checked.append(name))
    client = app.test_client()
    statuses = [
        sign_in(client, f"nobody{number}", "x").status_code for number in range(sign_in_limits.PER_ADDRESS + 10)
    ]
    assert statuses == [403] * sign_in_limits.PER_ADDRESS + [429] * 10
    assert len(checked) == sign_in_limits.PER_ADDRESS
    elsewhere = {"name": "vera", "password": "password of vera"}
    answer = client.post("/login", data=elsewhere, headers=SAME, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert answer.status_code == 403  # asked, not locked


@pytest.mark.parametrize(
    ("address", "other", "together"),
    [
        ("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::4", "2001:db8:1:3::4", False),
        ("192.0.2.7", "192.0.2.8", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
    ],
)
def test_addresses_of_one_client_share_a_count(address: str, other: str, together: bool) -> None:
    counts = sign_in_limits.AttemptCounter()
    for _ in range(sign_in_limits.PER_NAME_AND_ADDRESS):
        assert counts.count_attempt(None, sign_in_limits.SignInAttempt(name="ada", address=address)).is_allowed
    assert (
        counts.count_attempt(None, sign_in_limits.SignInAttempt(name="ada", address=other)).is_allowed is not together
    )


@pytest.mark.parametrize("in_redis", [True, False])
def test_one_name_cannot_be_guessed_from_everywhere(source: Source, redis_client: redis.Redis, in_redis: bool) -> None:
    counts, store = sign_in_limits.AttemptCounter(), Store(source) if in_redis else None
    answers = [
        counts.count_attempt(store, sign_in_limits.SignInAttempt(name="ada", address=f"192.0.2.{number}"))
        for number in range(sign_in_limits.PER_NAME + 2)
    ]
    assert [answer.is_allowed for answer in answers] == [True] * sign_in_limits.PER_NAME + [False] * 2
    assert [answer.is_recorded for answer in answers] == [True] * (sign_in_limits.PER_NAME + 1) + [False]


@pytest.mark.parametrize("in_redis", [True, False])
def test_one_address_uses_up_only_its_own_limit(source: Source, redis_client: redis.Redis, in_redis: bool) -> None:
    counts, store = sign_in_limits.AttemptCounter(), Store(source) if in_redis else None
    for _ in range(3 * sign_in_limits.PER_NAME):
        counts.count_attempt(store, sign_in_limits.SignInAttempt(name="ada", address="192.0.2.1"))
    assert counts.count_attempt(store, sign_in_limits.SignInAttempt(name="ada", address="192.0.2.2")).is_allowed
    before = redis_client.dbsize()
    for number in range(3 * sign_in_limits.PER_NAME):
        assert not counts.count_attempt(
            store, sign_in_limits.SignInAttempt(name=f"nobody{number}", address="192.0.2.1")
        ).is_recorded
    assert redis_client.dbsize() == before


def test_an_invalid_count_locks_no_one_out(source: Source, redis_client: redis.Redis) -> None:
    attempt = sign_in_limits.SignInAttempt(name="ada", address="192.0.2.1")
    for key in attempt.keys:
        redis_client.hset(key, "a", "b")
    assert sign_in_limits.AttemptCounter().count_attempt(Store(source), attempt).is_allowed


def test_a_flood_of_strangers_keeps_no_known_browser_waiting(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_limits, "WAIT_S", 0)
    vera = app.test_client()
    sign_in(vera, "vera")
    with ExitStack() as stack:
        for _ in range(sign_in_limits.CHECKS_AT_ONCE):
            assert stack.enter_context(sign_in_page._checks.turn())
        for _ in range(sign_in_limits.PER_NAME_AND_ADDRESS + 1):
            assert sign_in_page.BUSY in sign_in(app.test_client(), "vera").text  # a try that was not looked at is none
        assert sign_in(vera, "vera").status_code == 303
    assert sign_in(app.test_client(), "vera").status_code == 303


def test_successful_sign_ins_use_up_no_attempts(app: Flask) -> None:
    """Many users of one office, behind one address."""
    for _ in range(sign_in_limits.PER_ADDRESS + 5):
        assert sign_in(app.test_client(), "otto").status_code == 303


def test_two_passwords_are_checked_concurrently_and_a_flood_gets_429(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_limits, "WAIT_S", 0)
    with ExitStack() as stack:
        for _ in range(sign_in_limits.CHECKS_AT_ONCE):
            assert stack.enter_context(sign_in_page._checks.turn())
        busy = sign_in(app.test_client(), "vera")
        assert (busy.status_code, busy.headers["Retry-After"]) == (429, str(sign_in_page.BUSY_S))
        assert sign_in_page.BUSY in busy.text
    assert sign_in(app.test_client(), "vera").status_code == 303


def test_a_few_requests_wait_and_others_are_rejected_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_limits, "WAIT_S", CEILING_S)
    checks = sign_in_limits.Turns(sign_in_limits.CHECKS_AT_ONCE)
    turns: list[bool] = []

    def wait() -> None:
        with checks.turn() as is_free:
            turns.append(is_free)

    waiting = [threading.Thread(target=wait) for _ in range(sign_in_limits.WAITING)]
    with ExitStack() as stack:
        for _ in range(sign_in_limits.CHECKS_AT_ONCE):
            assert stack.enter_context(checks.turn())
        for thread in waiting:
            thread.start()
        wait_until(lambda: checks._inside._value == 0, what="all places to be taken")
        with checks.turn() as is_free:
            assert not is_free
    for thread in waiting:
        thread.join()
    assert turns == [True] * sign_in_limits.WAITING


def events(app: Flask) -> list[tuple[str, str, str, dict[str, int] | None, str | None]]:
    with app.app_context():
        found = app_services().action_service.audit_log.list_page().events
    return [(each.who, each.role, each.action, each.outcomes, each.detail) for each in reversed(found)]


def test_sign_ins_and_sign_outs_are_in_the_audit_log_and_the_server_log(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="queuedeck.audit")
    client, stranger = app.test_client(), app.test_client()
    sign_in(client, "otto")
    client.post("/logout", headers=SAME)
    sign_in(stranger, "my password by mistake", "x")
    for _ in range(sign_in_limits.PER_NAME_AND_ADDRESS + 3):
        sign_in(stranger, "vera", "guess")
    wrong = ("vera", "viewer", "sign in", {"refused": 1}, "wrong password")
    assert events(app) == [
        ("otto", "operator", "sign in", {"done": 1}, None),
        ("otto", "operator", "sign out", {"done": 1}, None),
        (UNKNOWN_USER, "unknown", "sign in", {"refused": 1}, "no such user"),
        *[wrong] * sign_in_limits.PER_NAME_AND_ADDRESS,
        ("vera", "viewer", "sign in", {"refused": 1}, sign_in_page.LOCKED),
    ]
    assert len([record for record in caplog.records if '"action":"sign' in record.message]) == len(events(app))
    assert "by mistake" not in caplog.text
    assert "guess" not in caplog.text
    sign_in(client, "ada")
    assert "<strong>ada</strong> signed in</p>" in client.get("/audit").text


def test_a_flood_of_failures_does_not_displace_actions_in_the_audit_log(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_limits, "RECORDED", 3)
    for number in range(10):
        form = {"name": "vera", "password": "x"}
        where = {"REMOTE_ADDR": f"192.0.2.{number}"}
        assert app.test_client().post("/login", data=form, headers=SAME, environ_overrides=where).status_code == 403
    assert len(events(app)) == 3


@pytest.mark.parametrize("change", ["password", "role", "gone", "key"])
def test_a_session_ends_when_its_user_or_the_secret_key_changes(make_app: MakeApp, app: Flask, change: str) -> None:
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
    other = app.test_client()
    name = "queuedeck-80" if app.config["COOKIE_BY_PORT"] else "queuedeck"
    cookie = client.get_cookie(name)
    assert cookie is not None
    other.set_cookie(name, cookie.value)
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


def test_signing_out_ends_the_session_for_copies_of_its_cookie_too(
    make_app: MakeApp, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other_process = app.test_client(), make_app(users=users(), secret_key=SECRET)
    sign_in(client, "vera")
    copies = [with_cookies_of(client, app), with_cookies_of(client, other_process)]
    assert [copy.get("/workers").status_code for copy in copies] == [200, 200]
    again = app.test_client()
    sign_in(again, "vera")
    assert client.post("/logout", headers=SAME).status_code == 303
    assert client.get("/workers").status_code == 303
    monkeypatch.setattr(sessions, "_ended", sessions.EndedSessions())  # as another process, or this one after a restart
    assert [copy.get("/workers").status_code for copy in copies] == [303, 303]
    assert again.get("/workers").status_code == 200  # on another browser the person stays signed in


def test_signing_out_without_redis_ends_the_session_here(make_app: MakeApp) -> None:
    app = make_app(users=users(), secret_key=SECRET, redis_url="redis://127.0.0.1:1/0")
    client = app.test_client()
    sign_in(client, "vera")
    copy = with_cookies_of(client, app)
    assert client.post("/logout", headers=SAME).status_code == 303
    assert copy.get("/workers").status_code == 303


def test_signing_out_ends_a_session_from_the_printed_url(make_app: MakeApp) -> None:
    app = make_app(start_token="t" * 43)
    client = app.test_client()
    client.get("/?token=" + "t" * 43)
    copy = with_cookies_of(client, app)
    assert copy.get("/workers").status_code == 200
    assert client.post("/logout", headers=SAME).status_code == 303
    assert copy.get("/workers").status_code == 403


@pytest.mark.parametrize(("ahead_s", "status"), [(2, 200), (200, 200), (sessions.CLOCKS_S + 60, 303)])
def test_servers_with_different_clocks_accept_each_others_sessions(
    app: Flask, monkeypatch: pytest.MonkeyPatch, ahead_s: int, status: int
) -> None:
    """Signed in by a host whose clock is ahead, then asked of one that is right."""
    real = time.time
    client = app.test_client()
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: real() + ahead_s)
        patch.setattr(sessions, "now_s", lambda: real() + ahead_s)
        sign_in(client, "vera")
    assert client.get("/workers").status_code == status


def test_requests_from_another_site_change_nothing(app: Flask) -> None:
    client = app.test_client()
    sign_in(client, "ada")
    for path in ("/login", "/logout", "/undo", "/bulk"):
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
            assert client.post(path, data={}, headers=headers).status_code == 403, (path, headers)
            assert client.get("/workers").status_code == 200, (path, headers)


WRITES = [
    "/alerts/0123/ack",
    "/alerts/groups/0123",
    "/silences",
    "/silences/0123/expire",
    "/deliveries/again",
    "/deliveries/dismiss",
    "/alerts/rules",
    "/alerts/rule/deep/edit",
    "/alerts/rule/deep/switch",
    "/alerts/rule/deep/remove",
    "/api/v1/alerts/x/acknowledge",
    "/api/v1/alerts/groups/x/acknowledge",
    "/api/v1/rules",
    "/api/v1/rules/deep/disable",
    "/api/v1/rules/deep/delete",
    "/channels/ops/test",
    "/undo",
    "/trash/restore",
    "/trash/x/restore",
    "/api/v1/trash/restore",
    "/api/v1/trash/x/restore",
    "/bulk",
    "/bulk/0123/pause",
    "/queues/main/rq/mail/act",
    "/queues/main/rq/mail/queue",
    "/queues/main/rq/mail/jobs/x/act",
    "/queues/main/rq/mail/jobs/x/reveal",
    "/schedules/act",
    "/workers/act",
    "/dead/0123456789abcdef/note",
    "/dead/0123456789abcdef/act",
    "/workers/confirm",
    "/schedules/confirm",
    "/queues/main/rq/mail/jobs/x/confirm",
    "/queues/main/rq/mail/confirm",
    "/dead/0123456789abcdef/confirm",
    "/marks",
    "/marks/0123/delete",
    "/tokens",
    "/tokens/0123/revoke",
    "/tokens/clean",
    "/search/act",
    "/search/confirm",
    "/api/v1/marks",
    "/api/v1/bulk",
    "/api/v1/undo/x",
    "/api/v1/bulk/0123/pause",
    "/api/v1/queues/main/rq/mail/pause",
    "/api/v1/queues/main/rq/mail/jobs/x/retry",
    "/api/v1/queues/main/rq/mail/jobs/x/reveal",
]


def test_a_viewer_changes_nothing(app: Flask, jobs: list[str]) -> None:
    client = app.test_client()
    sign_in(client, "vera")
    wrong = []
    for path in WRITES:
        response = client.post(path, data={}, headers=SAME)
        if response.status_code != 403 or not re.search("need the (operator|admin) role", response.text):
            wrong.append((path, response.status_code))
    assert wrong == []


def test_what_a_viewer_tried_is_recorded_within_limits(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_refusals", sign_in_limits.AttemptCounter())
    client = app.test_client()
    sign_in(client, "vera")
    for _ in range(8):
        assert client.post("/bulk", headers=SAME).status_code == 403
    assert client.get("/audit").status_code == 403  # looking changes nothing
    with app.app_context():
        events = app_services().action_service.audit_log.list_page().events
    tried = [(each.who, each.outcomes, each.detail) for each in events if each.action == "refused action"]
    assert tried == [("vera", {"refused": 1}, "POST /bulk, which needs the operator role")] * 6
    sign_in(client, "ada")
    assert "tried to act without the role for it" in client.get("/audit").text


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


def test_only_an_admin_reads_the_audit_log(app: Flask) -> None:
    for name, status in (("vera", 403), ("otto", 403), ("ada", 200)):
        client = app.test_client()
        sign_in(client, name)
        assert client.get("/audit").status_code == status
        assert client.get("/api/v1/audit").status_code == status
        assert ("/audit" in client.get("/workers").text) == (status == 200)


def test_a_method_that_an_address_lacks_is_named_to_users_only(app: Flask) -> None:
    client = app.test_client()
    assert client.put("/workers").status_code == 303
    assert client.put("/api/v1/workers").status_code == 401
    assert client.put("/workers", headers={"Authorization": "Bearer wrong"}).status_code == 401
    sign_in(client, "vera")
    answer = client.put("/workers")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "vera" in answer.text  # its page is that of a user who is signed in
    assert "Sign out" in answer.text
    assert client.put("/api/v1/workers").status_code == 405


def test_write_routes_do_not_exist_in_read_only_mode(make_app: MakeApp, jobs: list[str]) -> None:
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
        assert (response.status_code != 403 or "role for this" not in response.text) == allowed


def test_users_need_a_secret_key_and_a_valid_hash() -> None:
    with pytest.raises(ConfigurationError, match="secret_key is required"):
        load(environ={}, keywords={"users": users()})
    with pytest.raises(ConfigurationError, match="password_hash: expected what"):
        load(environ={}, keywords={"users": users(vera="plain"), "secret_key": SECRET})
    with pytest.raises(ConfigurationError, match="unique name for each user"):
        load(environ={}, keywords={"users": users()[:1] * 2, "secret_key": SECRET})


DIGEST = "0" * 128


@pytest.mark.parametrize(
    "wrong",
    [
        *("plain", "scrypt:oops$salt$" + DIGEST, "scrypt:1024:8:1$salt$", "scrypt:1024:8:1$salt$abc"),
        *("scrypt:1000:8:1$salt$" + DIGEST, "scrypt:33554432:8:1$salt$" + DIGEST, "scrypt:1024:0:1$salt$" + DIGEST),
        *("scrypt:1024:8:1$$" + DIGEST, "pbkdf2:sha256:1$salt$" + DIGEST, "scrypt:1024:8:99$salt$" + DIGEST),
    ],
)
def test_an_unusable_password_hash_prevents_the_start(wrong: str) -> None:
    """Signing in would fail, and reveal which names exist."""
    with pytest.raises(ConfigurationError, match="password_hash: expected what"):
        load(environ={}, keywords={"users": users(vera=wrong), "secret_key": SECRET})


def test_the_command_prints_a_usable_hash(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setattr("sys.stdin", open_text("correct horse battery\n"))
    assert main(["hash-password"]) == 0
    printed = capsys.readouterr().out.strip()
    settings = load(environ={}, keywords={"users": users(vera=printed)[:1], "secret_key": SECRET})
    assert sessions.check_password(settings, "vera", "correct horse battery") == settings.users[0]
    assert sessions.check_password(settings, "vera", "correct horse") is None
    monkeypatch.setattr("sys.stdin", open_text("short\n"))
    assert main(["hash-password"]) == 2


def open_text(text: str) -> Any:
    import io

    return io.StringIO(text)


def test_every_blueprint_has_a_role(app: Flask) -> None:
    assert {rule.endpoint.partition(".")[0] for rule in app.url_map.iter_rules()} <= set(ROUTES)
