"""The action service, bulk store and runners of one process on an empty Redis, with the fake backend `Shelf`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from dashboard.actions.audit_log import Actor, AuditLog
from dashboard.actions.bulk.operation import ENDED, BulkOperation, BulkPhase, BulkRequest, JobListRef
from dashboard.actions.bulk.runner import BulkRunner
from dashboard.actions.bulk.store import BulkStore
from dashboard.actions.service import ActionService
from dashboard.actions.trash import Trash
from dashboard.backends import registry
from dashboard.backends.actions import Action
from dashboard.model import QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.connection import PackedCommands
from dashboard.sources.source import Reply, Source
from dashboard.store.redis_store import Store
from tests.actions.fake_backend import Shelf
from tests.waiting import wait_until

ACTOR = Actor(name="anna", role="operator", address="127.0.0.1")


@pytest.fixture(autouse=True)
def register_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register `Shelf` as one of the libraries."""
    monkeypatch.setitem(registry._OURS, "shelf", "tests.actions.fake_backend:Shelf")
    registry.load_backend.cache_clear()


def expire_lease(client: redis.Redis, bulk_id: str) -> None:
    """Expire the lease of a dead process immediately."""
    client.delete(f"{{queuedeck}}:bulk:{bulk_id}:lease")


def run_turns_until(runner: BulkRunner, condition: Callable[[], Any], *, what: str) -> None:
    """Run turns of the runner in this thread; none after `condition` holds."""
    wait_until(lambda: condition() or runner.run_turn() < 0, what=what)


def before_exchange(source: Source, number: int, act: Callable[[], object], patch: pytest.MonkeyPatch) -> list[int]:
    """Run `act` before exchange `number` with Redis, or a piece of one. The list has an entry once that was reached."""
    run, seen, reached = source._run_pieces, 0, []

    def run_counted(pieces: list[PackedCommands]) -> list[Reply]:
        nonlocal seen
        replies = []
        for piece in pieces:
            if seen == number:
                reached.append(number)
                act()
            seen += 1
            replies += run([piece])
        return replies

    patch.setattr(source, "_run_pieces", run_counted)
    return reached


@dataclass
class Bench:
    """The parts that actions need, with shortcuts."""

    client: redis.Redis
    backend: Shelf
    actions: ActionService
    bulk_store: BulkStore
    make_runner: Callable[..., BulkRunner]

    def ref(self, name: str = "mail") -> QueueRef:
        return QueueRef(source="main", backend="shelf", name=name, key=f"shelf:{name}")

    def place(self, name: str = "mail") -> JobListRef:
        return JobListRef(ref=self.ref(name), state=State.DEAD)

    def request(self, action: Action = Action.RETRY, **fields: Any) -> BulkRequest:
        fields.setdefault("job_lists", (self.place(),))
        fields.setdefault("pace_per_s", 0)
        return BulkRequest(action=action, actor=ACTOR, **fields)

    def run(
        self, request: BulkRequest, until: Callable[[BulkOperation], bool] = lambda operation: operation.phase in ENDED
    ) -> BulkOperation:
        """The operation once `until` holds, run by a new runner."""
        bulk_id = self.bulk_store.create(request)
        runner = self.make_runner("here")
        runner.start()
        try:
            wait_until(lambda: until(self.bulk_store.get(bulk_id)), what="the awaited state of the operation")
        finally:
            runner.stop()
        return self.bulk_store.get(bulk_id)

    def waiting(self, name: str = "mail") -> list[str]:
        return [raw.decode() for raw in self.client.lrange(f"shelf:{name}:list", 0, -1)]

    def dead(self, name: str = "mail") -> list[str]:
        return [raw.decode() for raw in self.client.zrange(f"shelf:{name}:dead", 0, -1)]

    def reach(self, bulk_id: str, phase: BulkPhase) -> BulkOperation:
        return wait_until(
            lambda: (operation := self.bulk_store.get(bulk_id)).phase is phase and operation, what=f"{phase}"
        )


@pytest.fixture
def bench(source: Source, redis_client: redis.Redis) -> Iterator[Bench]:
    """The parts of one process on an empty Redis; its trash holds 1 MiB."""
    backend = Shelf(source, SourceSettings(name="main", url="redis://127.0.0.1"))
    store = Store(source)
    actions = ActionService(lambda _source, _name: backend, Trash(store, 1024 * 1024), AuditLog(source))
    bulk = BulkStore(store)
    made: list[BulkRunner] = []

    def make_runner(
        holder: str, most: int = 100_000, ask: Callable[[BulkOperation], None] = lambda _operation: None
    ) -> BulkRunner:
        runner = BulkRunner(
            bulk, actions, lambda _s, _n: backend, lambda _f, _p, _m: (), lambda _s, _n: (), holder, most, ask
        )
        made.append(runner)
        return runner

    yield Bench(redis_client, backend, actions, bulk, make_runner)
    for runner in made:
        runner.stop()
