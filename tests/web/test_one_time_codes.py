"""One-time codes of local users: required where there is a secret, accepted once, also while Redis is down."""

from __future__ import annotations

import time
from typing import Any

import pyotp
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.cli import main
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.store.redis_store import PREFIX
from dashboard.web.access import sign_in_limits
from dashboard.web.access.one_time_codes import STEP_S, OneTimeCodes
from dashboard.web.context import app_services
from dashboard.web.pages.sign_in import passwords
from tests.web.conftest import MakeApp
from tests.web.test_sign_in import SECRET, sign_in, users

CODES = pyotp.TOTP("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """A fixed time, in the middle of a step."""
    found = time.time() // STEP_S * STEP_S + 15
    monkeypatch.setattr("dashboard.web.access.one_time_codes.now_s", lambda: found)
    monkeypatch.setattr(passwords, "_attempts", sign_in_limits.AttemptCounter())
    monkeypatch.setattr(passwords, "_codes", OneTimeCodes())
    return found


def with_codes(**more: Any) -> dict[str, Any]:
    vera, *others = users()
    return {"users": [{**vera, "totp_secret": CODES.secret}, *others], "secret_key": SECRET, **more}


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Flask:
    return make_app(**with_codes())


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/workers").status_code == 200


def test_a_code_is_required_and_accepted_once(app: Flask, now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    client = app.test_client()
    assert 'autocomplete="one-time-code"' in client.get("/login").text
    for code in ("", "000000" if CODES.at(now) != "000000" else "111111", CODES.at(now - 90), CODES.at(now + 90)):
        answer = sign_in(client, "vera", code=code)
        assert (answer.status_code, passwords.WRONG_CODE in answer.text, is_signed_in(client)) == (403, True, False)
    right = CODES.at(now)
    assert sign_in(client, "vera", code=f"{right[:3]} {right[3:]}").status_code == 303
    assert is_signed_in(client)
    # Another process knows that it was used; so was every earlier one.
    monkeypatch.setattr(passwords, "_codes", OneTimeCodes())
    for code in (right, CODES.at(now - STEP_S)):
        assert sign_in(app.test_client(), "vera", code=code).status_code == 403
    assert sign_in(app.test_client(), "vera", code=CODES.at(now + STEP_S)).status_code == 303
    assert sign_in(app.test_client(), "otto").status_code == 303  # has no secret
    with app.app_context():
        events = app_services().action_service.audit_log.list_page().events
    assert [each.detail for each in events if each.who == "vera"].count("wrong code") == 6


def test_a_wrong_password_uses_up_no_code(app: Flask, now: float) -> None:
    assert sign_in(app.test_client(), "vera", "wrong", code=CODES.at(now)).status_code == 403
    assert sign_in(app.test_client(), "vera", code=CODES.at(now)).status_code == 303


def test_without_redis_a_code_is_still_accepted_once(make_app: MakeApp, now: float) -> None:
    app = make_app(**with_codes(redis_url="redis://127.0.0.1:1/0"))
    statuses = [sign_in(app.test_client(), "vera", code=CODES.at(now)).status_code for _ in range(2)]
    assert statuses == [303, 403]


def test_a_clock_that_was_wrong_locks_no_user_out(
    app: Flask, now: float, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as ahead:
        ahead.setattr("dashboard.web.access.one_time_codes.now_s", lambda: now + 7200)
        assert sign_in(app.test_client(), "vera", code=CODES.at(now + 7200)).status_code == 303
    assert sign_in(app.test_client(), "vera", code=CODES.at(now)).status_code == 303
    (key,) = redis_client.scan_iter(f"{PREFIX}:codes:*")
    redis_client.set(key, 999999999999)
    assert sign_in(app.test_client(), "vera", code=CODES.at(now + STEP_S)).status_code == 303


def test_a_new_secret_ends_sessions(make_app: MakeApp, app: Flask, now: float) -> None:
    client = app.test_client()
    sign_in(client, "vera", code=CODES.at(now))
    cookie = client.get_cookie("queuedeck")
    assert cookie is not None
    other = make_app(users=users(), secret_key=SECRET).test_client()
    other.set_cookie("queuedeck", cookie.value)
    assert not is_signed_in(other)
    assert "one-time-code" not in other.get("/login").text


def test_the_command_prints_a_usable_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["totp", "anna"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    secret = first.removeprefix('totp_secret = "').removesuffix('"')
    assert second == f"For the authenticator app: otpauth://totp/Queuedeck:anna?secret={secret}&issuer=Queuedeck"
    found = load(environ={}, keywords={"users": [{**users()[0], "totp_secret": secret}], "secret_key": SECRET})
    assert found.users[0].totp_secret == secret
    for wrong in ("", "short", secret.lower(), secret[:-1]):
        with pytest.raises(ConfigurationError, match="totp_secret: expected what `queuedeck totp` prints"):
            load(environ={}, keywords={"users": [{**users()[0], "totp_secret": wrong}], "secret_key": SECRET})
