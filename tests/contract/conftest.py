"""Every library on every server: filled once by the real thing, and put back as it was for each test."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from dashboard.backends.base import Backend, Budget
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import FlowDelta, Job, JobPage, JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.conftest import reset_server
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.celery_library import CeleryLibrary
from tests.contract.least_user import as_least_user, create_least_user
from tests.contract.library import Filled, Library
from tests.contract.listq_library import ListQLibrary
from tests.contract.rq_library import RQLibrary
from tests.contract.sidekiq_library import SidekiqLibrary
from tests.deployment.sentinel_set import SERVICE, lone_sentinel

LIBRARIES: tuple[Library, ...] = (
    RQLibrary(),
    BullMQLibrary("bullmq"),
    BullMQLibrary("bullmq5"),
    BullMQLibrary("bullmq4"),
    SidekiqLibrary(),
    CeleryLibrary(),
    ListQLibrary(),
)
# For what only some of them have.
ACTING = tuple(library for library in LIBRARIES if library.acts)
WITH_HASHES = tuple(library for library in LIBRARIES if library.hashes)


# How the dashboard reaches the server: as its default user; as the one of `doctor --acl`; through a Sentinel.
WAYS = ("directly", "as the least user", "through a Sentinel")
directly = pytest.mark.parametrize("way", WAYS[:1], indirect=True)
# Every so many of the tests that go another way than directly run in the gate, all of them in the soak ring.
OTHER_WAYS_IN_GATE = 12


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most of the tests that go another way to the soak ring; which ones is decided by their names."""
    for item in items:
        spec = getattr(item, "callspec", None)
        other = spec is not None and spec.params.get("way", WAYS[0]) != WAYS[0]
        if other and zlib.crc32(item.nodeid.encode()) % OTHER_WAYS_IN_GATE:
            item.add_marker("soak")


@dataclass(frozen=True)
class KeySpace:
    """A key space: what each key holds as DUMP tells it, and for how long."""

    library: Library
    filled: Filled
    keys: dict[bytes, tuple[bytes, int]]

    @classmethod
    def dump(cls, client: redis.Redis, library: Library, filled: Filled) -> KeySpace:
        """All keys as they are now."""
        keys = list(client.scan_iter(count=1000))
        with client.pipeline() as pipeline:  # a transaction: nothing expires between its value and its TTL
            for key in keys:
                pipeline.dump(key).pttl(key)
            found = pipeline.execute()
        dumps = zip(keys, found[::2], found[1::2], strict=True)
        kept = {key: (value, max(0, ttl_ms)) for key, value, ttl_ms in dumps if value is not None}
        return cls(library, filled, kept)

    def restore(self, client: redis.Redis) -> None:
        """Put all keys back, and nothing else."""
        reset_server(client)
        with client.pipeline(transaction=False) as pipeline:
            for key, (value, ttl_ms) in self.keys.items():
                pipeline.restore(key, ttl_ms, value)
            pipeline.execute()


@dataclass(frozen=True)
class Stage:
    """A library's queues `alpha` and `beta` in all states, and the backend that reads them."""

    library: Library
    filled: Filled
    url: str
    client: redis.Redis
    backend: Backend

    def discover(self) -> dict[str, QueueRef]:
        """All queues by name, from a whole search."""
        return search_queues(self.backend)

    def ref(self, name: str = "alpha") -> QueueRef:
        """One queue."""
        return self.discover()[name]

    def page(self, ref: QueueRef, state: State, **query: int) -> JobPage:
        """A page of jobs."""
        return self.backend.list_jobs(ref, JobQuery(state=state, **query))

    def rows(self, ref: QueueRef, state: State) -> dict[str, Job]:
        """The first page of jobs, by id."""
        return {job.id: job for job in self.page(ref, state).jobs}

    def flow(self, refs: list[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        """What a sampling process would tell now."""
        self.library.settle(self.backend, self.client)
        return self.backend.read_flow(refs, cursor)

    def changes(self) -> int:
        """How many changes the server has counted since it started."""
        changes: int = self.client.info("persistence")["rdb_changes_since_last_save"]
        return changes

    def sent_bytes(self) -> int:
        """How much the server has answered since it started."""
        sent: int = self.client.info("stats")["total_net_output_bytes"]
        return sent


@pytest.fixture(scope="session", params=LIBRARIES, ids=repr)
def key_space(request: pytest.FixtureRequest, any_server: EmbeddedRedis) -> KeySpace:
    """The key space of a library's queues on each server."""
    library: Library = request.param
    with redis.Redis.from_url(any_server.url) as client:
        reset_server(client)
        filled = library.fill(any_server.url)
        return KeySpace.dump(client, library, filled)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How the dashboard reaches the server; one of WAYS."""
    found: str = request.param
    return found


@pytest.fixture(scope="session")
def sentinel_url(any_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of each server through a Sentinel."""
    folder = tmp_path_factory.mktemp("sentinel")
    with lone_sentinel(folder, any_server.port) as address:
        yield f"redis+sentinel://{address}/{SERVICE}/0"


@contextmanager
def open_backend(library: Library, url: str) -> Iterator[Backend]:
    source = Source("main", url)
    backend = library.backend(source, SourceSettings(name="main", url=url))
    yield backend
    backend.close()
    source.close()


def search_queues(backend: Backend) -> dict[str, QueueRef]:
    """All queues by name, from a whole search."""
    found: dict[str, QueueRef] = {}
    cursor = None
    for _ in range(100):
        step = backend.discover_queues(cursor, Budget(commands=20, seconds=5))
        found.update({ref.name: ref for ref in step.found})
        if step.complete:
            return found
        cursor = step.cursor
    raise AssertionError("the search did not come to an end")


@pytest.fixture
def stage(key_space: KeySpace, any_server: EmbeddedRedis, way: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The filled queues of each library on each server, fresh for each test."""
    library, url = key_space.library, any_server.url
    with redis.Redis.from_url(any_server.url) as client:
        key_space.restore(client)
        if way == "as the least user":
            with open_backend(library, url) as backend:
                refs = list(search_queues(backend).values())
                create_least_user(client, backend, refs, acts=library.acts)
            url = as_least_user(url)
        elif way == "through a Sentinel":
            url = request.getfixturevalue("sentinel_url")
        with open_backend(library, url) as backend:
            library.prepare(backend, client)
            yield Stage(library, key_space.filled, any_server.url, client, backend)
