"""The settings of sign-in at a provider: the example of its page, and every wrong value with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dashboard.errors import ConfigurationError
from dashboard.settings import load
from tests.cases import failures_of
from tests.processes import ROOT

GUIDE = (ROOT / "docs" / "oidc.md").read_text()
OIDC: dict[str, Any] = {"issuer": "https://login.example.com", "client_id": "queuedeck", "default_role": "viewer"}
AROUND = {"secret_key": "k" * 40, "public_url": "https://queues.example.com"}
USERS = [{"name": "vera", "password_hash": f"scrypt:1024:8:1$a${'0' * 128}"}]
PROXY = {"peers": ["10.0.0.7"], "user_header": "X-User", "default_role": "viewer"}


def test_the_example_of_its_page(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "secret").write_text("the secret\n")
    (tmp_path / "queuedeck.toml").write_text(example.replace("/run/secrets/queuedeck-oidc", str(tmp_path / "secret")))
    settings = load(config=tmp_path / "queuedeck.toml", environ={"SESSION_KEY": "k" * 40})
    assert settings.oidc is not None
    assert (settings.oidc.client_secret, settings.oidc.group_roles["on-call"]) == ("the secret", "operator")


ACCEPTED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"issuer": "http://localhost:8080/realms/a"}, {}),
    ({"issuer": "http://127.0.0.1:8080"}, {}),
    ({"default_role": None, "domain_roles": {"example.com": "admin"}, "issuer": "https://accounts.google.com"}, {}),
    ({"client_secret": "s", "scopes": ["openid", "groups"], "name_claim": "https://example.com/name"}, {}),
    ({}, {"users": USERS}),
]
WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"secret_key": None}, "oidc: secret_key is required"),
    ({}, {"public_url": None}, "oidc: public_url is required"),
    ({}, {"auth": "none"}, 'auth: expected "auto" with oidc'),
    ({}, {"proxy_sign_in": PROXY}, "proxy_sign_in: expected either oidc or proxy_sign_in, not both"),
    ({"issuer": "http://login.example.com"}, {}, "issuer: expected the https:// URL"),
    ({"issuer": "http://localhost.example.com"}, {}, "issuer: expected the https:// URL"),
    ({"issuer": "https://u:p@login.example.com"}, {}, "issuer: expected the https:// URL"),
    ({"issuer": "https://login.example.com?x=1"}, {}, "issuer: expected the https:// URL"),
    ({"issuer": "https://login.example.com:x"}, {}, "issuer: expected the https:// URL"),
    ({"issuer": "https://"}, {}, "issuer: expected the https:// URL"),
    ({"issuer": "login.example.com"}, {}, "issuer: expected the https:// URL"),
    ({"client_id": ""}, {}, "client_id: expected the id"),
    ({"client_secret": " "}, {}, "client_secret: expected a secret"),
    ({"title": ""}, {}, "title: expected 1 to 40"),
    ({"title": "x" * 41}, {}, "title: expected 1 to 40"),
    ({"scopes": ["email"]}, {}, 'scopes: expected names of scopes, "openid" among them'),
    ({"scopes": ["openid", "a b"]}, {}, "scopes: expected names of scopes"),
    ({"name_claim": ""}, {}, "name_claim: expected the name of a claim"),
    ({"groups_claim": "groups"}, {}, "group_roles: expected both groups_claim and group_roles"),
    ({"group_roles": {"ops": "admin"}}, {}, "group_roles: expected both groups_claim and group_roles"),
    ({"user_roles": {"anna": "root"}}, {}, "user_roles: 'anna': expected \"viewer\""),
    ({"domain_roles": {"example.com": "Admin"}}, {}, "domain_roles: 'example.com': expected \"viewer\""),
    ({"domain_roles": {"*.example.com": "admin"}}, {}, "domain_roles: expected domains in lower case"),
    ({"domain_roles": {"Example.com": "admin"}}, {}, "domain_roles: expected domains in lower case"),
    ({"default_role": None}, {}, "otherwise, no one has access"),
    ({"issuer": "https://accounts.google.com"}, {}, "anyone can have an account at this provider"),
    ({"issuer": "https://gitlab.com/"}, {}, "anyone can have an account at this provider"),
    ({"ca_file": "/nowhere/ca.pem"}, {}, "ca_file: expected a readable file"),
    ({"ca_file": __file__}, {}, "ca_file: expected a readable file with PEM certificates"),
    ({"issuer": "https://login.example.com/{tenantid}/v2.0"}, {}, "issuer: expected the https:// URL"),
    ({"name_claim": "nickname"}, {}, "name_claim: expected a claim that users cannot change"),
    ({"issuer": "https://gitlab.com", "name_claim": "preferred_username"}, {}, "users cannot change"),
    ({}, {"public_url": "https://queues.example.com?x=1"}, "public_url: expected a URL without user, query"),
    ({"colour": "red"}, {}, "unknown field"),
]


def test_every_wrong_value_is_refused_with_what_was_expected() -> None:
    def accept(oidc: dict[str, Any], around: dict[str, Any]) -> None:
        load(environ={}, keywords={**AROUND, **around, "oidc": OIDC | oidc})

    def refuse(oidc: dict[str, Any], around: dict[str, Any], expected: str) -> None:
        settings = {name: value for name, value in (AROUND | around).items() if value is not None}
        with pytest.raises(ConfigurationError) as found:
            load(environ={}, keywords={**settings, "oidc": OIDC | oidc})
        assert expected in found.value.message, found.value.message

    assert failures_of(accept, ACCEPTED) == {}
    assert failures_of(refuse, WRONG) == {}
