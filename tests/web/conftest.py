"""The app on a real Redis that holds a few real RQ jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache, FileSystemBytecodeCache
from rq import Queue
from werkzeug.routing import Rule

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.leftovers import leftover_scan
from dashboard.memory_usage import limited_reader
from dashboard.web.app import create_app
from dashboard.web.context import EXTENSION
from dashboard.web.views import firing_banner
from dashboard.web.views.servers import source_reports
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.declared_responses import note_undeclared
from tests.forking import TEMPLATES

MakeApp = Callable[..., Flask]


class Compiled(BytecodeCache):
    """Templates that an app of this run has compiled already, for the apps after it."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType | None] = {}
        self._shared: FileSystemBytecodeCache | None = None

    def share(self, folder: str | None) -> None:
        """Exchange them with the other processes of this run, which have the same `folder`."""
        if folder is not None and self._shared is None:
            self._shared = FileSystemBytecodeCache(folder)

    def load_bytecode(self, bucket: Bucket) -> None:
        known = (bucket.key, bucket.checksum)
        if known not in self._code and self._shared is not None:
            self._shared.load_bytecode(bucket)
            self._code[known] = bucket.code
        bucket.code = self._code.get(known)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key, bucket.checksum] = bucket.code
        if self._shared is not None:
            self._shared.dump_bytecode(bucket)


COMPILED = Compiled()
# What rules of an address were compiled to, shared by all apps: compiling them is most of the cost of creating an app.
RULES: dict[object, dict[str, Any]] = {}
_compile_rule = Rule.compile


def _compile_once(rule: Rule) -> None:
    """Compile a rule, or take what the same rule of an earlier app was compiled to."""
    assert rule.map is not None
    key = (
        *(rule.rule, rule.subdomain, rule.host, rule.merge_slashes, repr(rule.defaults)),
        *(rule.map.host_matching, frozenset(rule.map.converters.items())),
    )
    if key not in RULES:
        _compile_rule(rule)
        compiled = ("_parts", "_trace", "_converters", "arguments", "_build", "_build_unknown")
        RULES[key] = {name: getattr(rule, name) for name in compiled}
        for name in ("_build", "_build_unknown"):
            RULES[key][name] = RULES[key][name].__func__
    for name, value in RULES[key].items():
        setattr(rule, name, value.__get__(rule, None) if name.startswith("_build") else value)


Rule.compile = _compile_once  # type: ignore[method-assign]


@pytest.fixture
def make_app(server: EmbeddedRedis, tmp_path: Path) -> Iterator[MakeApp]:
    """Creates apps on `server` that run their own sampler, each with its own spool file; all are stopped at the end.

    Local users have full access, unless `settings` say otherwise.
    """
    made: list[tuple[Flask, list[str]]] = []

    def make(**settings: Any) -> Flask:
        identify = settings.pop("identify", None)
        start_token = settings.pop("start_token", None)
        closed = identify or start_token or "users" in settings
        ours = {
            "auth": "auto" if closed else "none",
            **({} if "sources" in settings else {"redis_url": server.url}),
            "checker": "off",
            "spool_dir": str(tmp_path / "spool"),
        }
        app = create_app(identify=identify, start_token=start_token, **ours | settings)
        COMPILED.share(os.environ.get(TEMPLATES))
        app.jinja_env.bytecode_cache = COMPILED
        made.append((app, note_undeclared(app)))
        return app

    yield make
    for app, undeclared in made:
        app.extensions[EXTENSION].stop()
        assert not undeclared


@pytest.fixture
def once_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fires is asked for once, not each second: what a page costs is counted, however long it takes."""
    monkeypatch.setattr(firing_banner, "KEEP_S", 600.0)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports on a Redis read all of it and stay new, also on a busy machine."""
    monkeypatch.setattr(limited_reader, "MAX_S", 600.0)
    monkeypatch.setattr(leftover_scan, "JOBS_S", 600.0)
    monkeypatch.setattr(source_reports, "AGAIN_S", 600.0)


@pytest.fixture
def client(make_app: MakeApp, redis_client: redis.Redis) -> FlaskClient:
    """A browser on this machine, on an empty Redis."""
    return make_app().test_client()


@pytest.fixture
def jobs(redis_client: redis.Redis) -> list[str]:
    """Ids of three waiting jobs of the real RQ in the queue `mail`, oldest first."""
    queue = Queue("mail", connection=redis_client)
    return [queue.enqueue("app.mail.send", f"user{n}@example.com", password="hunter2").id for n in range(3)]


@pytest.fixture
def dead(server: EmbeddedRedis, client: FlaskClient) -> list[str]:
    """Ids of five jobs of the real RQ that failed alike in `mail`; two more of another kind are in `cash`."""
    ids = fail_rq(server, "mail", *((failing_jobs.mail, f"user{n}@example.com", n) for n in range(5)))
    fail_rq(server, "cash", *((failing_jobs.charge, n) for n in range(2)))
    return ids
