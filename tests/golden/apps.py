"""Apps for these tests, as `create_app` makes them for everybody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask

from dashboard import create_app
from tests.web.conftest import COMPILED

ROLES = ("viewer", "operator", "admin")
TOKENS = {role: f"the-token-of-the-{role}" for role in ROLES}
# The form of what `queuedeck hash-password` prints, at the least cost; nobody signs in with it.
HASH = f"scrypt:2:1:1$salt${'0' * 128}"
CLOSED: dict[str, Any] = {
    "secret_key": "k" * 40,
    "users": [{"name": "anna", "password_hash": HASH, "role": "admin"}],
    "api_tokens": [f"of-{role}:{role}:{hashlib.sha256(token.encode()).hexdigest()}" for role, token in TOKENS.items()],
}


def headers(role: str | None) -> dict[str, str]:
    """Those of a request by the holder of a role, or by nobody."""
    return {"Authorization": f"Bearer {TOKENS[role]}"} if role else {"Sec-Fetch-Site": "same-origin"}


@contextmanager
def running_app(url: str, folder: Path, **settings: Any) -> Iterator[Flask]:
    """An app with users and tokens on the Redis at `url`; it has no thread and no connection at the end."""
    app = create_app(redis_url=url, spool_dir=str(folder / "spool"), **{**CLOSED, **settings})
    app.jinja_env.bytecode_cache = COMPILED
    try:
        yield app
    finally:
        app.extensions["queuedeck"].stop()
