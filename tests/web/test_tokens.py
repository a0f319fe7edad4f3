"""API tokens that are created on the page: what they give access to, when they end, and what is written about them."""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.store.redis_store import PREFIX
from dashboard.web.access.token_store import MAX_TOKENS
from dashboard.web.context import app_services
from tests.web.conftest import MakeApp
from tests.web.test_sign_in import SAME, SECRET, sign_in, users

TOKENS, USED = f"{PREFIX}:tokens", f"{PREFIX}:tokens:used"
TEXT = re.compile(r'id="token-text">(qd_[a-z0-9]{12}_[A-Za-z0-9_-]{43})<')


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Flask:
    digest = hashlib.sha256(b"of the settings").hexdigest()
    return make_app(users=users(), secret_key=SECRET, api_tokens=[f"prometheus:viewer:{digest}"])


@pytest.fixture
def admin(app: Flask) -> FlaskClient:
    client = app.test_client()
    sign_in(client, "ada")
    return client


def create(client: FlaskClient, name: str = "deploy", role: str = "operator", days: str = "30") -> Any:
    return client.post("/tokens", data={"name": name, "role": role, "days": days}, headers=SAME)


def created(client: FlaskClient, name: str = "deploy", role: str = "operator") -> str:
    """The text of a new token."""
    found = TEXT.search(create(client, name, role).text)
    assert found is not None
    return found[1]


def ask(app: Flask, token: str, path: str = "/api/v1/overview", method: str = "GET") -> int:
    """The status that a client with nothing but the token gets."""
    answer = app.test_client().open(path, method=method, headers={"Authorization": f"Bearer {token}"})
    return int(answer.status_code)


def token_id(text: str) -> str:
    return text.split("_")[1]


def test_a_token_has_its_role_and_is_shown_once(app: Flask, admin: FlaskClient, redis_client: redis.Redis) -> None:
    token = created(admin)
    assert (ask(app, token), ask(app, token, "/metrics"), ask(app, token, "/workers")) == (200, 200, 200)
    assert (ask(app, token, "/api/v1/audit"), ask(app, token, "/tokens")) == (403, 403)  # for admins
    page = admin.get("/tokens").text
    assert "deploy" in page
    assert "prometheus" in page  # that of the settings
    assert token not in page
    assert token.encode() not in b"".join(redis_client.hvals(TOKENS))
    for wrong in (
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token + "x",
        f"qd_{'a' * 12}_{'b' * 43}",
        "x",
        "qd_é",
    ):
        assert (ask(app, wrong), ask(app, wrong, "/metrics")) == (401, 401), wrong
    assert ask(app, "of the settings") == 200


def test_a_token_makes_no_tokens(app: Flask, admin: FlaskClient) -> None:
    """One that leaks could make others, which outlive it."""
    headers = {"Authorization": f"Bearer {created(admin, role='admin')}"}
    form = {"name": "other", "role": "admin", "days": "30"}
    answer = app.test_client().post("/tokens", data=form, headers=headers)
    assert (answer.status_code, "managed by users who have signed in" in answer.text) == (403, True)


def test_the_page_is_for_admins(app: Flask) -> None:
    for name in ("vera", "otto"):
        client = app.test_client()
        sign_in(client, name)
        assert client.get("/tokens").status_code == 403
        assert "/tokens" not in client.get("/workers").text
        assert create(client).status_code == 403


def test_a_token_ends_at_once_when_it_is_revoked_and_when_it_expires(
    app: Flask, admin: FlaskClient, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, other = created(admin), created(admin, "other", "admin")
    question = admin.get(f"/tokens/{token_id(token)}/revoke").text
    assert "Revoke the API token deploy?" in question
    answer = admin.post(f"/tokens/{token_id(token)}/revoke", headers=SAME)
    assert answer.headers["Location"] == "/tokens?did=revoked"
    assert (ask(app, token), ask(app, other)) == (401, 200)
    for method in (admin.get, admin.post):
        assert method(f"/tokens/{token_id(token)}/revoke", headers=SAME).status_code == 404
    assert list(redis_client.hkeys(USED)) == [token_id(other).encode()]
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr("dashboard.web.access.token_store.now_s", lambda: now + 30 * 86_400 + 1)
        later.setattr("dashboard.web.pages.access.tokens.now_s", lambda: now + 30 * 86_400 + 1)
        assert ask(app, other) == 401
        assert "expired" in admin.get("/tokens").text
    with app.app_context():
        events = app_services().action_service.audit_log.list_page().events
    recorded = [(each.who, each.action, each.detail) for each in reversed(events) if "token" in each.action]
    assert recorded == [
        ("ada", "create token", "deploy (operator, 30 days)"),
        ("ada", "create token", "other (admin, 30 days)"),
        ("ada", "revoke token", "deploy"),
    ]
    assert "revoked the API token deploy" in admin.get("/audit").text


def test_the_last_use_is_written_about_once_a_minute(
    app: Flask, admin: FlaskClient, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = created(admin)
    assert "never" in admin.get("/tokens").text
    ask(app, token)
    redis_client.hset(USED, token_id(token), 5)
    ask(app, token)
    assert redis_client.hget(USED, token_id(token)) == b"5"
    then = time.monotonic() + 61
    monkeypatch.setattr("dashboard.web.access.token_store.monotonic_s", lambda: then)
    ask(app, token)
    assert abs(int(redis_client.hget(USED, token_id(token)) or 0) - time.time()) < 3600


def test_who_can_write_to_redis_gets_no_access(app: Flask, admin: FlaskClient, redis_client: redis.Redis) -> None:
    token = created(admin, role="viewer")
    known = redis_client.hget(TOKENS, token_id(token))
    assert known is not None
    stored = json.loads(known)
    text = f"qd_{'a' * 12}_{'b' * 43}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    forged = {
        token_id(token): {**stored, "token": {**stored["token"], "role": "admin"}},
        "a" * 12: {**stored, "token": {**stored["token"], "id": "a" * 12, "digest": digest}},
        "b" * 12: {"token": stored["token"], "mac": "é"},
        "c" * 12: {"token": 5},
        "\udcff odd / id": stored,
    }
    for name, value in forged.items():
        redis_client.hset(TOKENS, name.encode("utf-8", "surrogateescape"), json.dumps(value))
    redis_client.hset(TOKENS, "d" * 12, b"\xff" * 10)
    redis_client.hset(TOKENS, "e" * 12, b"[" * 100_000)
    assert [ask(app, each, path) for each in (token, text) for path in ("/api/v1/overview", "/metrics")] == [401] * 4
    page = admin.get("/tokens").text
    assert "7 tokens in Redis cannot be verified" in page
    assert "Remove 7 tokens that cannot be verified?" in admin.get("/tokens/clean").text
    assert admin.post("/tokens/clean", headers=SAME).status_code == 303
    assert redis_client.hlen(TOKENS) == 0
    with app.app_context():
        event = app_services().action_service.audit_log.list_page().events[0]
    assert (event.action, event.count, event.detail) == ("revoke token", 7, "7 that could not be verified")
    redis_client.set(TOKENS, "of another type")
    assert (ask(app, token), admin.get("/tokens").status_code) == (401, 200)
    assert ask(app, created(admin)) == 200


def test_a_new_secret_key_keeps_tokens_if_the_former_one_is_listed(
    make_app: MakeApp, app: Flask, admin: FlaskClient
) -> None:
    token = created(admin)
    for more, status in (({}, 401), ({"secret_key_fallbacks": [SECRET]}, 200), ({"store_prefix": "{other}"}, 401)):
        assert ask(make_app(users=users(), secret_key="n" * 40, **more), token) == status, more


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": ""}, "Enter 1 to 64 letters"),
        ({"name": "a b"}, "Enter 1 to 64 letters"),
        ({"name": "-"}, "a letter or digit first"),
        ({"name": "ADA"}, "has this name already"),
        ({"name": "local"}, "has this name already"),
        ({"name": "prometheus"}, "has this name already"),
        ({"name": "taken"}, "has this name already"),
        ({"role": "root"}, "Choose a role."),
        ({"days": "0"}, "Enter 1 to 366 days."),
        ({"days": "367"}, "Enter 1 to 366 days."),
        ({"days": "9" * 5000}, "Enter 1 to 366 days."),
        ({"days": "٣"}, "Enter 1 to 366 days."),
    ],
)
def test_wrong_fields_are_named(
    admin: FlaskClient, redis_client: redis.Redis, form: dict[str, str], field: str
) -> None:
    created(admin, "taken")
    answer = create(admin, **form)
    assert (answer.status_code, field in answer.text) == (422, True)
    assert redis_client.hlen(TOKENS) == 1


def test_there_is_a_limit(admin: FlaskClient, redis_client: redis.Redis) -> None:
    redis_client.hset(TOKENS, mapping={str(number): "x" for number in range(MAX_TOKENS)})
    answer = create(admin)
    assert (answer.status_code, f"There are {MAX_TOKENS} tokens already." in answer.text) == (409, True)


def test_without_a_secret_key_and_in_read_only_mode(make_app: MakeApp, redis_client: redis.Redis) -> None:
    client = make_app().test_client()
    assert "Set secret_key in the settings" in client.get("/tokens").text
    answer = create(client)
    assert (answer.status_code, "secret_key is required" in answer.text) == (409, True)
    client = make_app(secret_key=SECRET, read_only=True).test_client()
    page = client.get("/tokens").text
    assert ("View only" in page, "Create a token" in page) == (True, False)


def test_a_reason_is_required_where_the_settings_say_so(make_app: MakeApp, redis_client: redis.Redis) -> None:
    client = make_app(secret_key=SECRET, require_reason=True).test_client()
    assert (create(client).status_code, "Enter what this token is for." in create(client).text) == (422, True)
    form = {"name": "deploy", "role": "viewer", "days": "7", "reason": "for the pipeline"}
    assert client.post("/tokens", data=form, headers=SAME).status_code == 200
