"""The undo of a large delete as a bulk operation: paused, aborted, killed, continued; no job is restored twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from dashboard.actions.bulk.operation import ENDED, BulkOperation, BulkPhase, BulkRequest, JobListRef
from dashboard.actions.bulk.undo import build_batches_undo, build_undo, undo_batch_of
from dashboard.actions.trash import AT_ONCE_JOBS, DeletedBatch
from dashboard.backends.actions import Action, JobBackup, JobRef
from dashboard.backends.base import Budget
from dashboard.backends.celery.actions import queued as celery_waiting
from dashboard.backends.celery.actions.queued import PLACE_KEPT_UP_TO
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from tests.actions.conftest import ACTOR, Bench, expire_lease, run_turns_until
from tests.actions.fake_backend import bury
from tests.actions.test_bulk_libraries import WAITING, kill_and_finish, read_library_keys
from tests.bench.bulk import LIBRARIES, QUEUE, Parts
from tests.bench.bulk import WAITING as WAIT
from tests.waiting import wait_until

JOBS = 3_000
FEW = 250
MANY = 10_000
# Sizes for the short run: many batches, and for Celery a list too long for positions to be restored.
ENOUGH, KEPT_UP_TO = 1_200, 1_000
assert KEPT_UP_TO < PLACE_KEPT_UP_TO < MANY


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A separate Redis: another process uses it."""
    with EmbeddedRedis() as found:
        yield found


@pytest.fixture
def bench_with_room(bench: Bench) -> Bench:
    """A bench with a trash of 64 MiB."""
    bench.actions.trash._cap_bytes = 64 << 20
    return bench


def test_an_undo_restores_all_jobs_and_is_recorded_once(bench_with_room: Bench) -> None:
    ids = bury(bench_with_room.client, "mail", 1_100)
    bury(bench_with_room.client, "news", 100)
    deleted = bench_with_room.run(
        bench_with_room.request(Action.DELETE, job_lists=(bench_with_room.place("mail"), bench_with_room.place("news")))
    )
    assert bench_with_room.dead() + bench_with_room.dead("news") == []
    assert not bench_with_room.actions.trash.is_small(
        [undo_batch_of(deleted.id, place, deleted.request) for place in deleted.request.job_lists]
    )
    bert = replace(ACTOR, name="bert")
    operation = bench_with_room.run(build_undo(deleted, bert))
    assert (operation.phase, operation.matched, operation.outcomes) == (BulkPhase.DONE, 1_200, {"done": 1_200})
    assert bench_with_room.dead() == ids
    assert len(bench_with_room.dead("news")) == 100
    assert bench_with_room.bulk_store.get(deleted.id).restored == 1_200
    assert bench_with_room.client.zcard("{queuedeck}:bin") == 0
    undone, _ = bench_with_room.actions.audit_log.list_page().events
    assert (undone.action, undone.who, undone.count, undone.outcomes) == ("undo", "bert", 1_200, {"done": 1_200})
    assert (undone.bulk_id, undone.detail, len(undone.ids)) == (deleted.id, "done", 100)


def test_a_delete_has_one_undo_at_a_time(bench_with_room: Bench) -> None:
    bury(bench_with_room.client, "mail", 30)
    deleted = bench_with_room.run(bench_with_room.request(Action.DELETE))
    first = bench_with_room.bulk_store.create(build_undo(deleted, ACTOR))
    assert bench_with_room.bulk_store.create(build_undo(deleted, ACTOR)) == first
    found = bench_with_room.bulk_store.find_last_undo(deleted.id)
    assert found is not None
    assert (found.id, found.phase) == (first, BulkPhase.COLLECTING)
    bench_with_room.bulk_store.change_phase(first, "abort")
    assert bench_with_room.bulk_store.create(build_undo(deleted, ACTOR)) != first


def test_the_next_undo_restores_what_an_aborted_undo_left(bench_with_room: Bench) -> None:
    bury(bench_with_room.client, "mail", 400)
    deleted = bench_with_room.run(bench_with_room.request(Action.DELETE))
    bulk_id = bench_with_room.bulk_store.create(replace(build_undo(deleted, ACTOR), pace_per_s=200))
    runner = bench_with_room.make_runner("here")
    run_turns_until(runner, lambda: bench_with_room.bulk_store.get(bulk_id).processed > 0, what="the first jobs")
    assert bench_with_room.bulk_store.change_phase(bulk_id, "pause") is BulkPhase.PAUSED
    assert bench_with_room.bulk_store.change_phase(bulk_id, "resume") is BulkPhase.RUNNING
    at = bench_with_room.bulk_store.get(bulk_id).processed
    run_turns_until(runner, lambda: bench_with_room.bulk_store.get(bulk_id).processed > at, what="more jobs")
    bench_with_room.bulk_store.change_phase(bulk_id, "abort")
    run_turns_until(
        runner, lambda: bench_with_room.actions.audit_log.list_page().events[0].action == "undo", what="the record"
    )
    aborted = bench_with_room.bulk_store.get(bulk_id)
    assert 0 < aborted.done < 400
    assert len(bench_with_room.dead()) == aborted.done == bench_with_room.bulk_store.get(deleted.id).restored
    rest = bench_with_room.run(build_undo(deleted, ACTOR))
    assert (rest.matched, rest.outcomes) == (400 - aborted.done, {"done": 400 - aborted.done})
    assert len(bench_with_room.dead()) == 400
    assert bench_with_room.bulk_store.get(deleted.id).restored == 400


def test_a_job_whose_id_is_in_use_again_stays_in_the_trash(bench_with_room: Bench) -> None:
    bury(bench_with_room.client, "mail", 50)
    deleted = bench_with_room.run(bench_with_room.request(Action.DELETE))
    bury(bench_with_room.client, "mail", 1, start=7)
    assert bench_with_room.run(build_undo(deleted, ACTOR)).outcomes == {"done": 49, "changed": 1}
    undo_batch = undo_batch_of(deleted.id, deleted.request.job_lists[0], deleted.request)
    assert bench_with_room.actions.trash.count_left([undo_batch]) == {undo_batch: 1}


def test_an_undo_restores_batches_of_single_actions(bench_with_room: Bench) -> None:
    ids = bury(bench_with_room.client, "mail", 700)
    job_refs = [JobRef(id=each) for each in ids]
    undo_batch = bench_with_room.actions.on_jobs(
        ACTOR, bench_with_room.ref(), State.DEAD, Action.DELETE, job_refs
    ).undo_batch
    assert undo_batch is not None
    operation = bench_with_room.run(build_batches_undo([undo_batch], bench_with_room.actions.trash, ACTOR, "too soon"))
    assert (operation.matched, operation.outcomes) == (700, {"done": 700})
    assert bench_with_room.dead() == ids
    event = bench_with_room.actions.audit_log.list_page().events[0]
    assert (event.action, event.reason, event.bulk_id) == ("undo", "too soon", operation.id)


def test_many_or_large_jobs_are_not_small_enough_for_one_request(bench_with_room: Bench) -> None:
    about = DeletedBatch(ref=bench_with_room.ref(), state=State.DEAD, who="anna", at=0.0)

    def store(undo_batch: str, count: int, size: int) -> None:
        jobs = [JobBackup(id=f"{undo_batch}-{n}", version="1", blob=b"x" * size, size_bytes=size) for n in range(count)]
        assert bench_with_room.actions.trash.store_batch(undo_batch, about, jobs)

    store("few", AT_ONCE_JOBS, 10)
    assert bench_with_room.actions.trash.is_small(["few", "nothing"])
    store("more", 1, 10)
    assert not bench_with_room.actions.trash.is_small(["few", "more"])
    store("heavy", 17, 1_000_000)
    assert not bench_with_room.actions.trash.is_small(["heavy"])
    parts = list(bench_with_room.actions.trash.read_backups("heavy", ["heavy-3", "absent", "heavy-1", "heavy-2"]))
    assert [[each if isinstance(each, str) else each.id for each in part] for part in parts] == [
        ["heavy-3", "absent"],
        ["heavy-1"],
        ["heavy-2"],
    ]


@pytest.mark.soak  # at a random moment; test_bulk_steps.py ends the process at every step
@pytest.mark.parametrize("library", LIBRARIES)
def test_an_undo_whose_process_is_killed_restores_each_job_once(server: EmbeddedRedis, library: str) -> None:
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        LIBRARIES[library][0](client, JOBS)
        before = read_library_keys(client)
        deleted = run_to_end(parts, parts.request(Action.DELETE))
        assert deleted.outcomes == {"done": JOBS}
        bulk_id = parts.bulk_store.create(replace(build_undo(deleted, ACTOR), pace_per_s=2_500))
        kill_and_finish(server.url, library, parts, bulk_id)
        operation = parts.bulk_store.get(bulk_id)
        assert (operation.processed, operation.outcomes) == (JOBS, {"done": JOBS})
        assert JOBS - 1_000 <= parts.bulk_store.get(deleted.id).restored <= JOBS
        assert read_library_keys(client) == before
        assert client.zcard("{queuedeck}:bin") == 0


@pytest.mark.parametrize("dropped", [False, True], ids=["before the trash forgot", "after"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_restored_batch_that_ran_is_not_restored_again(
    server: EmbeddedRedis, library: str, dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies after it restored the jobs and before it recorded that; a worker runs all of them."""
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        WAIT[library](client, FEW)
        ids = WAITING[library](client)
        deleted = run_to_end(parts, replace(parts.request(Action.DELETE), job_lists=(waiting_list_of(parts),)))
        assert (deleted.outcomes, WAITING[library](client)) == ({"done": FEW}, [])
        bulk_id = parts.bulk_store.create(replace(build_undo(deleted, ACTOR), pace_per_s=2_000))
        killed = parts.runner("killed")
        dying: list[bool] = []

        def die(*_: Any, **__: Any) -> None:
            dying.append(True)
            raise KeyboardInterrupt  # no handler of the product catches it

        with monkeypatch.context() as patch:
            while parts.bulk_store.get(bulk_id).processed < 100:
                killed.run_turn()
            at = parts.bulk_store.get(bulk_id).processed
            patch.setattr(
                *((parts.bulk_store, "write_progress") if dropped else (parts.actions.trash, "drop_jobs")), die
            )
            with pytest.raises(KeyboardInterrupt):
                wait_until(lambda: killed.run_turn() < 0, what="the next batch")
        assert dying
        assert parts.bulk_store.get(bulk_id).processed == at
        ran_by_worker = WAITING[library](client)
        assert len(ran_by_worker) > at
        remove_waiting_jobs(client, library)
        expire_lease(client, bulk_id)
        operation = run_to_end(parts, bulk_id)
        assert (operation.phase, operation.processed, operation.outcomes) == (BulkPhase.DONE, FEW, {"done": FEW})
        rest = WAITING[library](client)
        assert sorted(ran_by_worker + rest) == sorted(ids)
        assert client.zcard("{queuedeck}:bin") == 0


@pytest.mark.parametrize(
    ("library", "many"),
    [
        *((library, ENOUGH) for library in LIBRARIES),
        *(pytest.param(library, MANY, marks=pytest.mark.soak) for library in LIBRARIES),
    ],
)
def test_an_undo_restores_the_order_of_thousands_of_waiting_jobs(
    server: EmbeddedRedis, library: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many == ENOUGH:
        monkeypatch.setattr(celery_waiting, "PLACE_KEPT_UP_TO", KEPT_UP_TO)
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        WAIT[library](client, many)
        ids = WAITING[library](client)
        for n, job_id in enumerate(ids if library == "rq" else ()):
            client.hset(f"rq:job:{job_id}", "enqueued_at", f"2026-01-01T00:00:00.{n:06}Z")
        deleted = run_to_end(parts, replace(parts.request(Action.DELETE), job_lists=(waiting_list_of(parts),)))
        assert (deleted.outcomes, WAITING[library](client)) == ({"done": many}, [])
        operation = run_to_end(parts, build_undo(deleted, ACTOR))
        assert operation.outcomes == {"done": many}
        back = WAITING[library](client)
        if library == "celery":  # restores positions only in lists of up to PLACE_KEPT_UP_TO messages
            assert sorted(back) == sorted(ids)
        else:
            assert back == ids
        assert parts.bulk_store.get(deleted.id).restored == many


def waiting_list_of(parts: Parts) -> JobListRef:
    """The waiting list of the queue."""
    refs = parts.backend.discover_queues(None, Budget(100, 5)).found
    return JobListRef(ref=next(ref for ref in refs if ref.name == QUEUE), state=State.WAITING)


def run_to_end(parts: Parts, what: BulkRequest | str) -> BulkOperation:
    """The operation after its end."""
    bulk_id = what if isinstance(what, str) else parts.bulk_store.create(what)
    runner = parts.runner(f"runs {bulk_id}")
    runner.start()
    try:
        wait_until(lambda: parts.bulk_store.get(bulk_id).phase in ENDED, what="the end of the operation")
    finally:
        runner.stop()
    return parts.bulk_store.get(bulk_id)


def remove_waiting_jobs(client: redis.Redis, library: str) -> None:
    """Remove the waiting jobs as if a worker ran them and the library kept none (`removeOnComplete` of BullMQ)."""
    if library == "bullmq":
        for job_id in WAITING[library](client):
            client.delete(f"bull:{QUEUE}:{job_id}")
        client.delete(f"bull:{QUEUE}:wait", f"bull:{QUEUE}:marker")
    elif library == "rq":
        for job_id in WAITING[library](client):
            client.delete(f"rq:job:{job_id}")
        client.delete(f"rq:queue:{QUEUE}")
    else:
        client.delete(f"queue:{QUEUE}" if library == "sidekiq" else QUEUE)
