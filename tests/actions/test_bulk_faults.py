"""Redis refuses writes during a bulk operation: it waits, shows why, and continues; no job is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from dashboard.actions.audit_log import AuditLog
from dashboard.actions.bulk import runner as running
from dashboard.actions.bulk.operation import BulkPhase
from dashboard.actions.bulk.runner import BulkRunner
from dashboard.actions.bulk.store import BulkStore
from dashboard.actions.bulk.undo import undo_batch_of
from dashboard.actions.service import ActionService
from dashboard.actions.trash import Trash
from dashboard.backends.actions import Action, ActionResult, Outcome
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.actions.test_bulk_libraries import DEAD, WAITING, read_library_keys
from tests.bench.bulk import LIBRARIES, Parts
from tests.conftest import SERVERS, USUAL, start_server
from tests.waiting import wait_until

JOBS = 600
BATCHES = 3  # succeed before Redis refuses writes


# The error of a replica is the same in each version and does not depend on the library.
OTHERS_IN_SOAK = [name if name == USUAL else pytest.param(name, marks=pytest.mark.soak) for name in SERVERS]


@pytest.fixture(params=OTHERS_IN_SOAK)
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedRedis]:
    """The Redis with the jobs."""
    with start_server(request.param) as found:
        yield found


@pytest.fixture
def own() -> Iterator[Source]:
    """The Redis with Queuedeck's own data."""
    with start_server("redis-7") as found:
        source = Source("own", found.url)
        yield source
        source.close()


def run_between_batches(actions: ActionService, what: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `what` between two batches, in the thread of the runner: another thread might be too late."""
    step, done = actions.run_batch, 0

    def run_counted(*arguments: Any, **more: Any) -> list[ActionResult]:
        nonlocal done
        if done == BATCHES:
            what()
        done += 1
        return step(*arguments, **more)

    monkeypatch.setattr(actions, "run_batch", run_counted)


@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
@pytest.mark.parametrize("library", LIBRARIES)
def test_an_operation_waits_until_a_replica_is_writable_again(
    server: EmbeddedRedis, own: Source, library: str, action: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "WAIT_FOR_REDIS_S", 0.2)
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        LIBRARIES[library][0](client, JOBS)
        before = read_library_keys(client)
        store = Store(own)
        actions = ActionService(lambda _s, _n: parts.backend, Trash(store, 1 << 30), AuditLog(own))
        bulk_store = BulkStore(store)
        runner = BulkRunner(
            bulk_store, actions, lambda _s, _n: parts.backend, lambda _f, _p, _m: (), lambda _s, _n: (), "here", 100_000
        )
        bulk_id = bulk_store.create(parts.request(action, pace_per_s=1_000))
        run_between_batches(actions, lambda: client.replicaof("127.0.0.1", "1"), monkeypatch)
        runner.start()
        try:
            note = wait_until(lambda: bulk_store.get(bulk_id).note, what="the note of the operation")
            assert "read-only replica" in note
            operation = bulk_store.get(bulk_id)
            assert (operation.phase, operation.outcomes) == (BulkPhase.RUNNING, {"done": operation.processed})
            assert 0 < operation.processed < JOBS
            with pytest.raises(BackendUnavailable, match="read-only"):
                actions.run_batch(
                    *(parts.backend, operation.request.job_lists[0].ref, operation.request.job_lists[0].state, action),
                    *(
                        [job_ref for _, job_ref in bulk_store.jobs.list_job_refs(bulk_id, JOBS - 1, 1)],
                        operation.request.options,
                        "b",
                        "otto",
                    ),
                )
            client.replicaof("NO", "ONE")
            wait_until(lambda: bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="the end of the operation")
        finally:
            runner.stop()
        operation = bulk_store.get(bulk_id)
        assert (operation.outcomes, operation.note) == ({"done": JOBS}, None)
        (event,) = actions.audit_log.list_page().events
        assert (event.outcomes, event.detail) == ({"done": JOBS}, "done")
        if action is Action.RETRY:
            waiting = WAITING[library](client)
            assert len(waiting) == len(set(waiting)) == JOBS
            assert library not in DEAD or client.zcard(DEAD[library]) == 0
        else:
            undo_batch = undo_batch_of(operation.id, operation.request.job_lists[0], operation.request)
            client.replicaof("127.0.0.1", "1")
            with pytest.raises(BackendUnavailable, match="read-only"):
                actions.restore_batch(operation.request.actor, undo_batch, bulk_id=operation.id)
            event = actions.audit_log.list_page().events[0]
            assert (event.action, event.bulk_id, event.outcomes) == ("undo", operation.id, {})
            assert "read-only" in (event.detail or "")
            client.replicaof("NO", "ONE")
            assert actions.restore_batch(operation.request.actor, undo_batch).count(Outcome.DONE) == JOBS
            assert read_library_keys(client) == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_running_out_of_memory_loses_no_job_and_no_audit_event(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queuedeck's own data are on the same server. Scripts that free memory first may succeed; the others wait."""
    monkeypatch.setattr(running, "WAIT_FOR_REDIS_S", 0.2)
    with (
        start_server("redis-7") as server,
        redis.Redis.from_url(server.url) as client,
        Parts(server.url, library) as parts,
    ):
        LIBRARIES[library][0](client, JOBS)
        bulk_id = parts.bulk_store.create(parts.request(Action.RETRY, pace_per_s=1_000))
        runner = parts.runner("here")
        full: list[bool] = []

        def fill_up() -> None:
            client.config_set("maxmemory", "1mb")
            full.append(True)

        run_between_batches(parts.actions, fill_up, monkeypatch)
        runner.start()
        try:
            wait_until(lambda: full, what="the first batches")

            def is_waiting_or_recorded() -> bool:
                operation = parts.bulk_store.get(bulk_id)
                return "out of memory" in (operation.note or "") or bool(parts.actions.audit_log.list_page().events)

            wait_until(is_waiting_or_recorded, what="a note about the memory, or the recorded end")
            client.config_set("maxmemory", "0")
            wait_until(lambda: parts.bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="the end of the operation")
        finally:
            runner.stop()
        assert parts.bulk_store.get(bulk_id).outcomes == {"done": JOBS}
        waiting = WAITING[library](client)
        assert len(waiting) == len(set(waiting)) == JOBS
        (event,) = parts.actions.audit_log.list_page().events
        assert (event.outcomes, event.detail) == ({"done": JOBS}, "done")
