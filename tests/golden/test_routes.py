"""Every address of the app: its methods, who may use it, and its name in the description of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from dashboard.web.rights.routes import required_of
from tests.golden.apps import PLACE, ROLES, address, headers, running_app
from tests.golden.files import same_as_committed

# Texts may be reworded, and a version rises.
_TEXTS = ("description", "summary")


def _methods(app: Flask) -> dict[str, set[str]]:
    """The methods of each rule, by the rule."""
    found: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        found.setdefault(rule.rule, set()).update((rule.methods or set()) - {"HEAD", "OPTIONS"})
    return found


def _may(client: FlaskClient, rule: str, method: str) -> str:
    """Who needs to be there at least for the method to be tried on things that do not exist."""
    path = PLACE.sub(lambda found: (found[2] or "nothing").partition(",")[0].strip(), rule)
    # A sign-in is refused by the form itself, unless it cannot be read.
    form = {"nothing": "1"} if (path, method) == ("/login", "POST") else None
    for role in (None, *ROLES):
        answer = client.open(path, method=method, headers=headers(role), data=form)
        to_sign_in = answer.status_code == 303 and answer.headers["Location"].startswith("/login?next=")
        if answer.status_code not in (401, 403) and not to_sign_in:
            return role or "anybody"
    return "user without token"


def _operations(client: FlaskClient) -> dict[tuple[str, str], str]:
    """The operationId of each path and method of the API."""
    paths = client.get("/api/v1/openapi.json", headers=headers("viewer")).get_json()["paths"]
    return {
        (f"/api/v1{path}", method.upper()): operation["operationId"]
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def test_routes(bare_app: Flask, tmp_path: Path) -> None:
    client = bare_app.test_client(use_cookies=False)
    operations = _operations(client)
    with running_app("redis://127.0.0.1:1/0", tmp_path, checker="off", read_only=True) as app:
        read_only = _methods(app)
    endpoints = {
        (rule.rule, method): rule.endpoint for rule in bare_app.url_map.iter_rules() for method in rule.methods or ()
    }
    found: dict[str, Any] = {}
    for rule, methods in _methods(bare_app).items():
        plain = PLACE.sub(r"{\3}", rule)
        for method in methods:
            facts: dict[str, Any] = {"role": _may(client, rule, method)}
            required = required_of(endpoints[rule, method])
            if required is not None and required.right is not None:
                facts["right"] = required.right.value
            if required is not None and required.whole:
                facts["only for those who see all queues"] = True
            if method not in read_only.get(rule, ()):
                facts["not in read-only mode"] = True
            if operation := operations.get((plain, method)):
                facts["operationId"] = operation
            found[f"{address(rule)} {method}"] = facts
    assert {facts["role"] for facts in found.values()} == {"anybody", *ROLES, "user without token"}
    without = [name for name, facts in found.items() if facts["role"] == "user without token"]
    assert all(name.startswith("/tokens") for name in without), without
    same_as_committed("routes", found)


def test_probes(bare_app: Flask) -> None:
    """What watches the process asks these without a sign-in."""
    client = bare_app.test_client(use_cookies=False)
    found = {}
    for path in ("/healthz", "/healthz/checker", "/readyz"):
        answer = client.get(path)
        found[path] = [answer.status_code, answer.mimetype, answer.get_json()]
    same_as_committed("probes", found)


def _without_texts(value: Any, *, names: bool = False) -> Any:
    """`names`: the keys of `value` are names of fields, of which one may be called `description`."""
    if isinstance(value, dict):
        return {
            key: _without_texts(each, names=key in ("properties", "schemas", "paths") and not names)
            for key, each in value.items()
            if names or key not in _TEXTS
        }
    return [_without_texts(each) for each in value] if isinstance(value, list) else value


def test_the_description_of_the_api(bare_app: Flask) -> None:
    described = bare_app.test_client().get("/api/v1/openapi.json", headers=headers("viewer")).get_json()
    del described["info"]
    same_as_committed("openapi", _without_texts(described))
