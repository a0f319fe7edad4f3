"""Apps for these tests, as `create_app` makes them for everybody."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask

from dashboard import create_app
from tests.declared_responses import note_undeclared
from tests.golden.files import FOLDER
from tests.web.conftest import COMPILED

# A place in a rule of Werkzeug: its converter, the words of that, and its name.
PLACE = re.compile(r"<(?:([a-z]+)(?:\(([^<>]*)\))?:)?(\w+)>")
ROLES = ("viewer", "operator", "admin")
TOKENS = {role: f"the-token-of-the-{role}" for role in ROLES}
# The form of what `queuedeck hash-password` prints, at the least cost; nobody signs in with it.
HASH = f"scrypt:2:1:1$salt${'0' * 128}"
CLOSED: dict[str, Any] = {
    "secret_key": "k" * 40,
    "users": [{"name": "anna", "password_hash": HASH, "role": "admin"}],
    "api_tokens": [f"of-{role}:{role}:{hashlib.sha256(token.encode()).hexdigest()}" for role, token in TOKENS.items()],
}

# The rules that ship, switched off: whether a bare server is in danger is not what these tests are about.
SHIPPED_OFF = [{"id": name, "enabled": False} for name in json.loads((FOLDER / "rules.json").read_text())["shipped"]]


def headers(role: str | None) -> dict[str, str]:
    """Those of a request by the holder of a role, or by nobody."""
    return {"Authorization": f"Bearer {TOKENS[role]}"} if role else {"Sec-Fetch-Site": "same-origin"}


def address(rule: str) -> str:
    """The rule without the names of its converters, as `/queues/{source}`; those of words name their words."""

    def place(found: re.Match[str]) -> str:
        kind, words, name = found.groups()
        path = "…" if kind == "path" else ""
        return f"{{{name}{path}{': ' + words if words else ''}}}"

    return PLACE.sub(place, rule)


@contextmanager
def running_app(url: str, folder: Path, **settings: Any) -> Iterator[Flask]:
    """An app with users and tokens on the Redis at `url`; it has no thread and no connection at the end."""
    app = create_app(redis_url=url, spool_dir=str(folder / "spool"), **{**CLOSED, **settings})
    app.jinja_env.bytecode_cache = COMPILED
    undeclared = note_undeclared(app)
    try:
        yield app
    finally:
        app.extensions["queuedeck"].stop()
    assert not undeclared
