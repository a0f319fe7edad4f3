"""Sign-in at an OpenID Connect provider: what ends in a session, and everything that must not."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
import requests.certs
from flask import Flask
from flask.testing import FlaskClient

from dashboard.auth import Identity, Role
from dashboard.cli import main
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import ConfigurationError
from dashboard.settings import OidcSettings, load
from dashboard.settings.display import describe
from dashboard.web.access import oidc_transport, sign_in_limits
from dashboard.web.access.oidc_attempts import MAX_ATTEMPTS
from dashboard.web.access.oidc_claims import GOOGLE, UserRefused, identify
from dashboard.web.access.sessions import ABSOLUTE_S
from dashboard.web.app import create_app
from dashboard.web.context import EXTENSION, app_services
from dashboard.web.pages.sign_in import provider as pages
from tests.cases import failures_of
from tests.certificates import make_certificate
from tests.oidc import CLIENT, SECRET, Scripted, forged, new_key, scripted_provider
from tests.waiting import CEILING_S
from tests.web.conftest import MakeApp
from tests.web.test_sign_in import HASHES, SAME

URL = "http://localhost"  # of the test client
ANNA = {"email": "anna@example.com", "email_verified": True}
ROLES = {"user_roles": {"anna@example.com": "operator"}}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr(pages, "_refusals", sign_in_limits.AttemptCounter())
    with scripted_provider() as found:
        found.claims = dict(ANNA)
        yield found


MakeOidc = Callable[..., Flask]


@pytest.fixture
def make(make_app: MakeApp, provider: Scripted, redis_client: redis.Redis) -> MakeOidc:
    """Creates an app whose users sign in at `provider`, with these fields of [oidc]."""

    def create(more: dict[str, Any] | None = None, /, **fields: Any) -> Flask:
        oidc = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret": SECRET, **(fields or ROLES)}
        return make_app(**{"auth": "auto", "oidc": oidc, "secret_key": "k" * 40, "public_url": URL} | (more or {}))

    return create


@pytest.fixture
def app(make: MakeOidc) -> Flask:
    return make()


def begin(client: FlaskClient, provider: Scripted, target: str = "/workers") -> dict[str, str]:
    """Begin a sign-in; the parameters with which the browser arrives at the provider."""
    answer = client.get("/login/oidc", query_string={"next": target})
    assert answer.status_code == 303, answer.text
    assert answer.headers["Location"].startswith(f"{provider.issuer}/auth?")
    sent = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    provider.nonce = sent["nonce"]
    return sent


def finish(client: FlaskClient, state: str, **parameters: str) -> Any:
    return client.get("/login/oidc/callback", query_string={"state": state, "code": "the code", **parameters})


def sign_in(client: FlaskClient, provider: Scripted, target: str = "/workers") -> Any:
    return finish(client, begin(client, provider, target)["state"])


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/workers").status_code == 200


def audited(app: Flask) -> list[tuple[str, str, str, str | None]]:
    """(who, role, outcome, detail) of each event, oldest first."""
    with app.app_context():
        events = app_services().action_service.audit_log.list_page().events
    return [(each.who, each.role, "".join(each.outcomes or {}), each.detail) for each in reversed(events)]


def test_a_page_leads_to_the_provider_and_back_to_the_page(app: Flask, provider: Scripted) -> None:
    client = app.test_client()
    answer = client.get("/workers?q=a", follow_redirects=False)
    for expected in ("/login?next=/workers?q%3Da", "/login/oidc?next=/workers?q%3Da"):
        assert (answer.status_code, answer.headers["Location"]) == (303, expected)
        answer = client.get(expected) if expected.startswith("/login?") else answer
    sent = begin(client, provider, "/workers?q=a")
    assert (sent["response_type"], sent["client_id"], sent["scope"]) == ("code", CLIENT, "openid email profile")
    assert (sent["redirect_uri"], sent["code_challenge_method"]) == (f"{URL}/login/oidc/callback", "S256")
    answer = finish(client, sent["state"])
    assert (answer.status_code, answer.headers["Location"]) == (303, "/workers?q=a")
    page = client.get("/workers")
    assert (page.status_code, "anna@example.com" in page.text, 'title="operator"' in page.text) == (200, True, True)
    assert client.get("/audit").status_code == 403  # for admins
    assert audited(app) == [("anna@example.com", "operator", "done", None)]
    (_, headers, form) = next(asked for asked in provider.asked if asked[0] == "/token")
    assert headers["Authorization"].startswith("Basic ")
    assert (form["grant_type"], form["code"], len(form["code_verifier"])) == ("authorization_code", "the code", 48)
    assert client.get("/login/oidc?next=/search").headers["Location"] == "/search"  # signed in already


def test_sign_out_ends_the_session_everywhere_and_links_to_the_provider(app: Flask, provider: Scripted) -> None:
    client = app.test_client()
    sign_in(client, provider)
    copy = client.get_cookie("queuedeck")
    assert copy is not None
    answer = client.post("/logout", headers=SAME)
    assert answer.headers["Location"] == "/login?signed_out=1"
    page = client.get("/login?signed_out=1").text
    assert "You are signed out." in page
    assert f'href="{provider.issuer}/end?client_id={CLIENT}"' in page
    assert "Sign in with single sign-on" in page
    assert not is_signed_in(client)
    client.set_cookie("queuedeck", copy.value)
    assert not is_signed_in(client)
    assert [(who, detail) for who, _, _, detail in audited(app)] == [("anna@example.com", None)] * 2


WRONG_TOKENS: dict[str, Callable[[Scripted], Any]] = {
    "of another issuer": lambda provider: provider.token(iss="https://login.example.com"),
    "for another client": lambda provider: provider.token(aud="another client"),
    "for another client, with our azp": lambda provider: provider.token(aud="another client", azp=CLIENT),
    "for us, issued to another client": lambda provider: provider.token(aud=[CLIENT, "another"], azp="another"),
    "for us and another, without azp": lambda provider: provider.token(aud=[CLIENT, "another"]),
    "with another nonce": lambda provider: provider.token(nonce="another"),
    "without nonce": lambda provider: provider.token(nonce=None),
    "expired": lambda provider: provider.token(exp=int(time.time()) - 3600),
    "without expiry": lambda provider: provider.token(exp=None),
    "issued in the future": lambda provider: provider.token(iat=int(time.time()) + 3600),
    "without subject": lambda provider: provider.token(sub=None),
    "alg none": lambda provider: forged(provider, b'{"alg":"none"}'),
    "HS256 by the client secret": lambda provider: forged(provider, b'{"alg":"HS256"}', SECRET.encode()),
    "HS256 by the public key": lambda provider: forged(
        provider, b'{"alg":"HS256","kid":"first"}', new_key("first").as_pem(private=False)
    ),
    "by another key": lambda provider: provider.token(key="stranger"),
    "by another key of the same id": lambda provider: provider.token(key="stranger", header={"kid": "first"}),
    "cut": lambda provider: provider.token()[:-20],
    "no text": lambda provider: 5,
    "absent": lambda provider: None,
}


def test_a_wrong_id_token_gives_no_access(app: Flask, provider: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    def check(_: str, make_token: Callable[[Scripted], Any]) -> None:
        client = app.test_client()
        state = begin(client, provider)["state"]
        token = make_token(provider)
        provider.answers["/token"] = {"access_token": "access", "token_type": "Bearer", "id_token": token}
        answer = finish(client, state)
        assert (answer.status_code, "Sign-in with single sign-on failed." in answer.text) == (502, True), answer.text
        assert not is_signed_in(client)
        assert client.get_cookie("queuedeck") is None

    assert failures_of(check, WRONG_TOKENS.items()) == {}
    assert audited(app) == []
    assert len(caplog.records) == len(WRONG_TOKENS)
    assert not [record for record in caplog.messages if "eyJ" in record]  # no token in the log
    provider.answers.clear()
    assert sign_in(app.test_client(), provider).status_code == 303


def test_only_the_browser_that_began_a_sign_in_ends_it_and_once(app: Flask, provider: Scripted) -> None:
    client, other = app.test_client(), app.test_client()
    state = begin(client, provider)["state"]
    for browser, sent in ((other, state), (client, "another"), (client, ""), (client, "ü" * 2000)):
        answer = finish(browser, sent)
        assert (answer.status_code, pages.UNKNOWN_ATTEMPT in answer.text) == (403, True)
    assert not [path for path, _, _ in provider.asked if path == "/token"]
    assert finish(client, state).status_code == 303
    assert finish(client, state).headers["Location"] == "/"  # the address opened again: signed in already
    assert len([path for path, _, _ in provider.asked if path == "/token"]) == 1
    # An attempt ends with its first answer, whatever it was.
    state = begin(other, provider)["state"]
    refused = finish(other, state, error="access_denied", error_description="<b>no</b>")
    assert (refused.status_code, "refused the sign-in: access_denied." in refused.text) == (403, True)
    assert finish(other, state).status_code == 403
    answer = finish(other, begin(other, provider)["state"], iss="https://login.example.com")
    assert (answer.status_code, is_signed_in(other)) == (403, False)


def test_attempts_of_several_tabs_and_old_ones(app: Flask, provider: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    client = app.test_client()
    begun = [begin(client, provider, "/" + str(number) * 399) for number in range(MAX_ATTEMPTS + 1)]
    states = [sent["state"] for sent in begun]
    assert sum(len(cookie.value) for cookie in client._cookies.values()) < 6000
    assert finish(client, states[0]).status_code == 403  # no longer known
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr("dashboard.web.access.oidc_attempts.now_s", lambda: now + 3700)
        assert finish(client, states[3]).status_code == 403
    for number in (8, 2):  # in any order, and after another one has ended
        provider.nonce = begun[number]["nonce"]
        assert finish(client, states[number]).headers["Location"] == "/" + str(number) * 399


def test_tabs_that_begin_at_once_do_not_end_each_other(app: Flask, provider: Scripted) -> None:
    one, two = app.test_client(), app.test_client()
    first, nonce = begin(one, provider, "/workers"), provider.nonce
    second = begin(two, provider, "/search")
    for cookie in two._cookies.values():  # the last one of a name wins
        one.set_cookie(cookie.key, cookie.value, path=cookie.path)
    assert finish(one, second["state"]).headers["Location"] == "/search"
    provider.nonce = nonce
    assert finish(one, first["state"]).headers["Location"] == "/workers"


def test_a_form_without_a_session_leads_to_a_page_of_ours(app: Flask, provider: Scripted) -> None:
    """The policy of the page that sent it, `form-action 'self'`, blocks a redirect to the provider."""
    client = app.test_client()
    sign_in(client, provider)
    client.post("/logout", headers=SAME)
    for path, expected in (("/logout", "/login?signed_out=1"), ("/bulk", "/login?next=/&ended=1")):
        assert client.post(path, headers=SAME).headers["Location"] == expected
        page = client.get(expected)
        assert (page.status_code, "Sign in with single sign-on" in page.text) == (200, True)
    assert f'href="{provider.issuer}/end?' in client.get("/login?signed_out=1").text  # still known
    sign_in(client, provider)
    assert "You are signed out." not in client.get("/login?signed_out=1").text


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "/../evil"])
def test_next_leads_to_no_other_site(app: Flask, provider: Scripted, target: str) -> None:
    client = app.test_client()
    assert sign_in(client, provider, target).headers["Location"] == "/"
    assert client.get("/login/oidc", query_string={"next": target}).headers["Location"] == "/"


# What a provider answers -> the status of the page and a part of its text.
ANSWERS: dict[str, tuple[str, Any]] = {
    "the token endpoint fails": ("/token", (500, {})),
    "the client is unknown": ("/token", (401, {"error": "invalid_client"})),
    "the code is unknown": ("/token", (400, {"error": "invalid_grant", "error_description": "The code is old."})),
    "the token is not JSON": ("/token", b"<html>"),
    "the token is a list": ("/token", [1]),
    "the token endpoint redirects": ("/token", (302, {"to": "http://127.0.0.1:9/"})),
    "the keys are none": ("/keys", {}),
    "the keys are odd": ("/keys", {"keys": [{"kty": "odd"}, 5]}),
    "the keys are a text": ("/keys", {"keys": "text"}),
    "the answer is too large": ("/token", b" " * 2_000_000),
    "the keys redirect": ("/keys", (302, {"to": "http://127.0.0.1:9/"})),
    "deep JSON": ("/keys", b"[" * 100_000),
}


def test_a_provider_that_fails_gives_no_access(make: MakeOidc, provider: Scripted) -> None:
    def check(_: str, answer: tuple[str, Any]) -> None:
        provider.answers = {}
        client = make().test_client()
        state = begin(client, provider)["state"]
        provider.answers = dict([answer])
        found = finish(client, state)
        assert (found.status_code, "Sign-in with single sign-on failed." in found.text) == (502, True), found.text
        assert not is_signed_in(client)

    assert failures_of(check, ANSWERS.items()) == {}


DISCOVERED: dict[str, Any] = {
    "it fails": (500, {}),
    "it is for another issuer": {"issuer": "https://login.example.com"},
    "it names no endpoint": {},
    "it redirects": (302, {"to": "/elsewhere"}),
    "it is a list": [],
    "an endpoint is a script": {"authorization_endpoint": "javascript:alert(1)"},
    "an endpoint is a number": {"authorization_endpoint": 5},
}


def test_a_provider_without_a_usable_discovery_document(
    make: MakeOidc, provider: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    def check(_: str, answer: Any) -> None:
        found = {"issuer": provider.issuer} | answer if isinstance(answer, dict) else answer
        provider.answers["/.well-known/openid-configuration"] = found
        page = make().test_client().get("/login/oidc?next=/workers")
        assert (page.status_code, "Sign-in with single sign-on failed." in page.text) == (502, True), page.text
        assert 'href="/login/oidc?next=/workers"' in page.text  # to try again

    assert failures_of(check, DISCOVERED.items()) == {}
    assert "the provider calls itself 'https://login.example.com': set issuer to exactly that" in caplog.text
    app, provider.answers = make(), {}
    assert begin(app.test_client(), provider)


def test_a_provider_that_does_not_respond_occupies_few_threads(
    app: Flask, make_app: MakeApp, provider: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_transport, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(sign_in_limits, "WAIT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        issuer = f"http://127.0.0.1:{silent.getsockname()[1]}"
        oidc = {"issuer": issuer, "client_id": CLIENT, **ROLES}
        hangs = make_app(auth="auto", oidc=oidc, secret_key="k" * 40, public_url=URL)
        assert hangs.test_client().get("/login/oidc").status_code == 502
    monkeypatch.setattr(oidc_transport, "TIMEOUT_S", CEILING_S)
    client = app.test_client()
    state = begin(client, provider)["state"]
    with contextlib.ExitStack() as stack:
        assert all(stack.enter_context(pages._turns.turn()) for _ in range(4))
        busy = [app.test_client().get("/login/oidc"), finish(client, state)]
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in busy] == [(429, "5")] * 2
    assert finish(client, state).status_code == 303  # this try was not used up


def test_an_answer_that_never_ends_is_given_up(
    app: Flask, provider: Scripted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = app.test_client()
    state = begin(client, provider)["state"]
    provider.drips = {"/token"}
    monkeypatch.setattr(oidc_transport, "WITHIN_S", 0.2)
    monkeypatch.setattr(oidc_transport, "MAX_BYTES", 500)  # its end, at a byte each 10 ms, were there no limit of time
    assert finish(client, state).status_code == 502
    assert "/token took more than" in caplog.text


def test_a_private_certificate_counts_beside_the_bundle_of_the_environment(
    make: MakeOidc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    certificate = make_certificate(tmp_path)
    with scripted_provider(certificate) as private:
        trusting, other = (
            make(issuer=private.issuer, ca_file=str(certificate[0]), **ROLES),
            make(issuer=private.issuer, **ROLES),
        )
        statuses = [each.test_client().get("/login/oidc").status_code for each in (trusting, other)]
        assert statuses == [303, 502]
        certificate[0].unlink()
        trusting.extensions[EXTENSION].oidc_provider._discovery.invalidate()
        assert trusting.test_client().get("/login/oidc").status_code == 502


def test_new_keys_of_the_provider_are_found(app: Flask, provider: Scripted) -> None:
    assert sign_in(app.test_client(), provider).status_code == 303
    provider.keys = ["second"]
    assert sign_in(app.test_client(), provider).status_code == 303
    assert sign_in(app.test_client(), provider).status_code == 303
    assert [path for path, _, _ in provider.asked].count("/keys") == 2


BASIC, POST = "client_secret_basic", "client_secret_post"


@pytest.mark.parametrize(
    ("methods", "secret", "encoded"),
    [
        ([POST], "plain", None),
        ([BASIC, POST], "pl-a.i_n~", "pl-a.i_n~"),
        ([BASIC, POST], "ab+c/d%=", None),
        ([BASIC], "ab+c/d%=", "ab%2Bc%2Fd%25%3D"),
        (None, "ab+c/d%=", "ab%2Bc%2Fd%25%3D"),
        ("odd", "plain", "plain"),
    ],
)
def test_the_client_authenticates_as_the_provider_accepts(
    make: MakeOidc, provider: Scripted, methods: Any, secret: str, encoded: str | None
) -> None:
    methods_known = {"token_endpoint_auth_methods_supported": methods}
    document = provider.answer("/.well-known/openid-configuration")
    provider.answers["/.well-known/openid-configuration"] = document | methods_known
    assert sign_in(make(**ROLES, client_secret=secret).test_client(), provider).status_code == 303
    (_, headers, form) = next(asked for asked in provider.asked if asked[0] == "/token")
    if encoded is None:
        assert (form["client_secret"], "Authorization" in headers) == (secret, False)
    else:
        assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode() == f"{CLIENT}:{encoded}"
        assert "client_secret" not in form


ODD_KEYS: tuple[dict[str, Any], ...] = (
    {"kty": "EC", "crv": "BP-256", "kid": "x", "x": "AAAA", "y": "AAAA"},
    {"kty": "RSA", "kid": "x"},
    {"kty": "RSA", "use": "tls", "kid": "x", "n": "AAAA", "e": "AQAB"},
    {"kty": "oct", "k": "AAAA", "kid": 5},
)


def test_keys_of_other_kinds_make_no_other_unusable(app: Flask, provider: Scripted) -> None:
    encrypts = new_key("encrypts").as_dict(private=False) | {"use": "enc"}
    provider.answers["/keys"] = {"keys": [*ODD_KEYS, 5, encrypts, new_key("first").as_dict(private=False)]}
    assert sign_in(app.test_client(), provider).status_code == 303


def test_strangers_write_no_lines_of_the_log(app: Flask, provider: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    client = app.test_client()
    finish(client, begin(client, provider)["state"], error="x\nERROR forged", error_description="y\x1b[31m" * 1000)
    state = begin(client, provider)["state"]
    provider.answers["/token"] = (400, {"error": "invalid_client", "error_description": f"not {SECRET}\n" * 1000})
    finish(client, state)
    assert len(caplog.messages) == 2
    assert all(message.isprintable() and len(message) < 500 for message in caplog.messages)
    assert SECRET not in caplog.text


GROUPS = {"groups_claim": "groups", "group_roles": {"ops": "operator", "staff": "viewer"}}
NESTED = {"groups_claim": "realm_access.roles", "group_roles": {"ops": "admin"}}
# The fields of [oidc], the claims, and the role or what the page says.
USERS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (ROLES, ANNA, "operator"),
    (ROLES, ANNA | {"email_verified": "true"}, "operator"),
    (ROLES, ANNA | {"email_verified": False}, "is not verified"),
    (ROLES, ANNA | {"email_verified": None}, "is not verified"),
    (ROLES, ANNA | {"email_verified": 1}, "is not verified"),
    (ROLES, ANNA | {"email": "ben@example.com"}, "ben@example.com has no role"),
    (ROLES, ANNA | {"email": "Anna@example.com"}, "Anna@example.com has no role"),
    (ROLES, ANNA | {"email": ["anna@example.com"]}, "sent no usable email"),
    (ROLES, ANNA | {"email": "anna@example.com\n"}, "sent no usable email"),
    (ROLES, ANNA | {"email": ""}, "sent no usable email"),
    (ROLES, {"email": None}, "sent no usable email"),
    ({"domain_roles": {"example.com": "viewer"}}, ANNA, "viewer"),
    ({"domain_roles": {"example.com": "viewer"}}, ANNA | {"email": "ben@EXAMPLE.com"}, "viewer"),
    ({"domain_roles": {"example.com": "viewer"}}, ANNA | {"email": "ben@example.com.evil.example"}, "has no role"),
    ({"domain_roles": {"example.com": "viewer"}}, ANNA | {"email": "ben@evil.example@example.com"}, "viewer"),
    ({"domain_roles": {"example.com": "viewer"}, "name_claim": "sub"}, ANNA | {"email_verified": False}, "has no role"),
    ({"domain_roles": {"example.com": "viewer"}, "user_roles": {"5": "admin"}, "name_claim": "sub"}, ANNA, "viewer"),
    ({"default_role": "viewer", "name_claim": "preferred_username"}, {"preferred_username": "ben"}, "viewer"),
    (GROUPS, ANNA | {"groups": ["staff", "ops"]}, "operator"),
    (GROUPS, ANNA | {"groups": "staff"}, "viewer"),
    (GROUPS, ANNA | {"groups": ["OPS", 5, None, ["ops"]]}, "has no role"),
    (GROUPS, ANNA | {"groups": {"ops": True}}, "has no role"),
    (GROUPS | ROLES, ANNA | {"groups": ["staff"]}, "operator"),
    (NESTED, ANNA | {"realm_access": {"roles": ["ops"]}}, "admin"),
    (NESTED, ANNA | {"realm_access": ["roles"]}, "has no role"),
    ({**NESTED, "groups_claim": "https://example.com/roles"}, ANNA | {"https://example.com/roles": ["ops"]}, "admin"),
]


def test_the_role_is_the_highest_of_user_domain_groups_and_default(make: MakeOidc, provider: Scripted) -> None:
    def check(fields: dict[str, Any], claims: dict[str, Any], expected: str) -> None:
        client = make(**fields).test_client()
        provider.claims = claims
        answer = sign_in(client, provider)
        if expected in ("viewer", "operator", "admin"):
            assert (answer.status_code, f'title="{expected}"' in client.get("/workers").text) == (303, True)
        else:
            assert (answer.status_code, expected in answer.text) == (403, True), answer.text
            assert not is_signed_in(client)

    assert failures_of(check, USERS) == {}


def test_claims_that_the_id_token_lacks_come_from_userinfo_of_the_same_user(make: MakeOidc, provider: Scripted) -> None:
    client = make(**GROUPS).test_client()
    provider.claims = {}
    provider.answers["/me"] = {"sub": "1", "groups": ["ops"], **ANNA}
    assert sign_in(client, provider).status_code == 303
    asked = next(headers for path, headers, _ in provider.asked if path == "/me")
    assert (asked["Authorization"], is_signed_in(client)) == ("Bearer access", True)
    for other in ({"sub": "2", "groups": ["ops"], **ANNA}, {"groups": ["ops"], **ANNA}, (500, {}), b"no JSON"):
        provider.answers["/me"] = other
        assert sign_in(make(**GROUPS).test_client(), provider).status_code == 502
    # A lifetime of seconds is enough, and an address of the token is verified by userinfo, if it is the same source.
    provider.claims = {"email": "anna@example.com"}
    provider.answers["/me"] = {"sub": "1", "groups": ["ops"], **ANNA}
    client = make(**GROUPS).test_client()
    state = begin(client, provider)["state"]
    short = {"access_token": "access", "token_type": "Bearer", "expires_in": 1, "id_token": provider.token()}
    provider.answers["/token"] = short
    assert finish(client, state).status_code == 303
    del provider.answers["/token"]
    provider.answers["/me"] = {"sub": "1", "email": "ben@example.com", "email_verified": True}
    client = make(**GROUPS, user_roles={"anna@example.com": "admin"}).test_client()
    answer = sign_in(client, provider)
    assert (answer.status_code, "ben@example.com has no role" in answer.text) == (403, True)
    # A claim of the token, which is signed, is not replaced.
    provider.claims = ANNA
    provider.answers["/me"] = {"sub": "1", "groups": ["staff"], "email": "ben@example.com"}
    client = make(**GROUPS).test_client()
    sign_in(client, provider)
    assert "anna@example.com" in client.get("/workers").text


def test_refusals_are_in_the_audit_log_within_limits(app: Flask, provider: Scripted) -> None:
    provider.claims = ANNA | {"email": "ben@example.com"}
    for _ in range(8):
        assert sign_in(app.test_client(), provider).status_code == 403
    refused = ("ben@example.com", "unknown", "refused", "ben@example.com has no role in Queuedeck.")
    assert audited(app) == [refused] * 6  # five, and the first beyond


def test_local_users_beside_a_provider(make: MakeOidc, provider: Scripted) -> None:
    local = {"users": [{"name": "vera", "password_hash": HASHES["vera"]}]}
    app = make(local, user_roles={"vera": "admin"}, name_claim="sub", default_role="viewer")
    client = app.test_client()
    page = client.get("/login?next=/workers").text
    assert 'href="/login/oidc?next=/workers"' in page
    assert 'name="password"' in page
    provider.claims = {"sub": "vera"}
    answer = sign_in(client, provider)
    assert (answer.status_code, "is also called vera." in answer.text) == (403, True)
    assert 'href="/login/oidc?next=/workers&amp;again=1"' in answer.text
    again = client.get("/login/oidc?again=1").headers["Location"]
    assert parse_qs(urlsplit(again).query)["prompt"] == ["login"]
    provider.claims = {"sub": "anna"}
    assert sign_in(client, provider).status_code == 303
    client = app.test_client()
    client.post("/login", data={"name": "vera", "password": "password of vera"}, headers=SAME)
    assert 'title="viewer"' in client.get("/workers").text


def test_a_domain_at_google_counts_for_accounts_of_that_organization_only() -> None:
    """A former employee can keep a private account with the address."""
    settings = OidcSettings(issuer=GOOGLE, client_id=CLIENT, domain_roles={"example.com": "viewer"})
    assert identify([ANNA | {"hd": "example.com"}], settings).role is Role.VIEWER
    for claims in (ANNA, ANNA | {"hd": "example.org"}):
        with pytest.raises(UserRefused, match="has no role"):
            identify([claims], settings)


def test_names_that_the_audit_log_would_confuse(make: MakeOidc, provider: Scripted) -> None:
    local = {"users": [{"name": "vera", "password_hash": HASHES["vera"]}], "api_tokens": ["deploy:viewer:" + "0" * 64]}
    app = make(local, name_claim="sub", default_role="viewer")
    store = app.extensions[EXTENSION].token_store
    store.create("nightly", Role.VIEWER, 1, "vera")

    def check(name: str) -> None:
        provider.claims = {"sub": name}
        assert sign_in(app.test_client(), provider).status_code == 403

    names = (" ", "Vera", "vera ", "ＶＥＲＡ", "deploy", "Nightly", "local", "(unknown name)")
    assert failures_of(check, [(name,) for name in names]) == {}


def test_a_cookie_of_the_host_application_with_the_same_key_is_none_of_ours(app: Flask, provider: Scripted) -> None:
    client, host = app.test_client(), Flask("host")
    sign_in(client, provider)
    host.secret_key = "k" * 40
    with client.session_transaction() as ours:
        content = dict(ours)
    browser = host.test_client()
    with browser.session_transaction() as theirs:
        theirs.update(content)
    cookie, other = browser.get_cookie("session"), app.test_client()
    assert cookie is not None
    other.set_cookie("queuedeck", cookie.value)
    assert not is_signed_in(other)


def test_changed_roles_and_age_end_a_session_but_not_a_changed_secret(
    make: MakeOidc, provider: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make().test_client()
    sign_in(client, provider)
    cookie = client.get_cookie("queuedeck")
    assert cookie is not None

    def accepts(**fields: Any) -> bool:
        other = make(**fields).test_client()
        other.set_cookie("queuedeck", cookie.value)
        return is_signed_in(other)

    assert accepts()
    assert accepts(**ROLES, client_secret="another", title="Keycloak")
    assert not accepts(user_roles={"anna@example.com": "admin"})
    assert not accepts(**ROLES, client_id="another")
    now = time.time()
    monkeypatch.setattr("dashboard.web.access.sessions.now_s", lambda: now + ABSOLUTE_S + 301)
    assert not is_signed_in(client)


def test_a_browser_at_another_address_is_sent_to_the_public_url_once(make: MakeOidc, provider: Scripted) -> None:
    client = make({"public_url": "https://jobs.example.com/ops"}).test_client()
    answer = client.get("/login/oidc?next=/workers")
    assert answer.headers["Location"] == "https://jobs.example.com/ops/login/oidc?next=%2Fworkers&here=1"
    # A proxy that hides the address from the dashboard must not make this a circle.
    location = client.get("/login/oidc?next=/workers&here=1").headers["Location"]
    assert parse_qs(urlsplit(location).query)["redirect_uri"] == ["https://jobs.example.com/ops/login/oidc/callback"]


def test_settings_that_exclude_each_other_and_a_missing_package(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    oidc = {"issuer": "https://login.example.com", "client_id": CLIENT, "client_secret": SECRET, **ROLES}
    settings = load(environ={}, keywords={"oidc": oidc, "secret_key": "k" * 40, "public_url": URL})
    with pytest.raises(ConfigurationError, match="expected either identify or oidc, not both"):
        create_app(settings, identify=lambda environ: Identity(name="anna"))
    (line,) = [line for line in describe(settings) if " oidc = " in line]
    assert "https://login.example.com" in line
    assert SECRET not in line
    assert create_app(settings).extensions[EXTENSION].oidc_provider is not None
    monkeypatch.setitem(sys.modules, "dashboard.web.access.oidc", None)
    with pytest.raises(ConfigurationError, match=r"oidc: the package .* is missing") as found:
        create_app(settings)
    assert found.value.hint == "Install it with: pip install 'queuedeck[oidc]'"


def test_without_a_provider_there_are_no_such_pages(make_app: MakeApp, redis_client: redis.Redis) -> None:
    client = make_app().test_client()
    assert [client.get(path).status_code for path in ("/login", "/login/oidc", "/login/oidc/callback")] == [404] * 3


def test_the_doctor_examines_the_provider(
    server: EmbeddedRedis, provider: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "queuedeck.toml"
    config.write_text(
        f'redis_url = "{server.url}"\nsecret_key = "{"k" * 40}"\npublic_url = "{URL}"\n'
        f'[oidc]\nissuer = "{provider.issuer}"\nclient_id = "{CLIENT}"\n'
        'default_role = "viewer"\nscopes = ["openid", "groups"]\n'
    )

    def examined() -> tuple[int, str]:
        status = main(["doctor", "--config", str(config)])
        return status, capsys.readouterr().out.partition(f"oidc · {provider.issuer}\n")[2]

    discovered = provider.answer("/.well-known/openid-configuration")
    provider.answers["/.well-known/openid-configuration"] = discovered | {
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["sub"],
    }
    _, found = examined()
    assert "ok       It responds, and has 1 key for signatures" in found
    assert "warning  It does not name the scopes groups. Check scopes." in found
    assert "note     It does not name the claim email." in found
    assert f"note     The redirect URI to register there is {URL}/login/oidc/callback" in found
    provider.answers["/.well-known/openid-configuration"] = discovered
    assert "problem  It signs with HS256, none only." in examined()[1]
    provider.answers["/keys"] = (500, {})
    status, found = examined()
    assert (status, "problem  The provider cannot be used: 500 Server Error" in found) == (2, True)


def test_groups_that_grants_name_stay_with_the_session(make: MakeOidc, provider: Scripted) -> None:
    grants = [{"groups": ["mail-team"], "queues": ["mail-*"], "allow": ["view", "retry"]}]
    fields = {"groups_claim": "groups"}
    provider.claims = ANNA | {"groups": ["many", "mail-team", "others"]}
    app = make({"grants": grants}, **fields)
    client = app.test_client()
    assert sign_in(client, provider).status_code == 303
    assert client.get("/redis").status_code == 403
    assert "anna@example.com" in client.get("/rights/me").text
    cookie = client.get_cookie("queuedeck")
    assert cookie is not None
    session = app.session_interface.get_signing_serializer(app).loads(cookie.value)  # type: ignore[attr-defined]
    assert session["groups"] == ["mail-team"]
    # A session does not have the groups that other grants name: it ends with them.
    other = make({"grants": [*grants, {"groups": ["others"], "allow": ["view"]}]}, **fields).test_client()
    other.set_cookie("queuedeck", cookie.value)
    assert not is_signed_in(other)
    provider.claims = ANNA | {"groups": ["many"]}
    assert "has no role" in sign_in(app.test_client(), provider).text
