"""The undo of a large delete as bulk work: watched, paused, aborted, killed and gone on; nothing comes back twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from dashboard.actions.bulk.operation import ENDED, BulkOperation, BulkPhase, BulkRequest, JobListRef
from dashboard.actions.bulk.undo import batch_of, undo_of, undo_of_batches
from dashboard.actions.undo_bin import AT_ONCE_JOBS, DeletedBatch
from dashboard.backends.actions import Action, JobBackup, JobRef
from dashboard.backends.base import Budget
from dashboard.backends.celery.actions import queued as celery_waiting
from dashboard.backends.celery.actions.queued import PLACE_KEPT_UP_TO
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from tests.actions.conftest import ACTOR, Bench, expire_lease, turn_until
from tests.actions.fake_backend import bury
from tests.actions.test_bulk_libraries import WAITING, killed_half_way, picture
from tests.bench.bulk import LIBRARIES, QUEUE, Parts
from tests.bench.bulk import WAITING as WAIT
from tests.waiting import wait_until

JOBS = 3_000
FEW = 250
MANY = 10_000
# What of it a gate takes: many batches, and in Celery's case a list in which places are not kept any more.
ENOUGH, KEPT_UP_TO = 1_200, 1_000
assert KEPT_UP_TO < PLACE_KEPT_UP_TO < MANY


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of its own: another process works on it."""
    with EmbeddedRedis() as found:
        yield found


@pytest.fixture
def roomy(bench: Bench) -> Bench:
    """Its bin holds 64 MiB."""
    bench.actions.undo_bin._cap_bytes = 64 << 20
    return bench


def test_all_of_it_comes_back_and_is_recorded_once(roomy: Bench) -> None:
    ids = bury(roomy.client, "mail", 1_100)
    bury(roomy.client, "news", 100)
    deleted = roomy.run(roomy.spec(Action.DELETE, job_lists=(roomy.place("mail"), roomy.place("news"))))
    assert roomy.dead() + roomy.dead("news") == []
    assert not roomy.actions.undo_bin.is_small(
        [batch_of(deleted.id, place, deleted.spec) for place in deleted.spec.job_lists]
    )
    bert = replace(ACTOR, name="bert")
    operation = roomy.run(undo_of(deleted, bert))
    assert (operation.phase, operation.matched, operation.outcomes) == (BulkPhase.DONE, 1_200, {"done": 1_200})
    assert roomy.dead() == ids
    assert len(roomy.dead("news")) == 100
    assert roomy.bulk.get(deleted.id).restored == 1_200
    assert roomy.client.zcard("{queuedeck}:bin") == 0
    undone, _ = roomy.actions.audit_log.list_events()
    assert (undone.action, undone.who, undone.count, undone.outcomes) == ("undo", "bert", 1_200, {"done": 1_200})
    assert (undone.bulk_id, undone.detail, len(undone.ids)) == (deleted.id, "done", 100)


def test_there_is_one_undo_of_a_delete_at_a_time(roomy: Bench) -> None:
    bury(roomy.client, "mail", 30)
    deleted = roomy.run(roomy.spec(Action.DELETE))
    first = roomy.bulk.create(undo_of(deleted, ACTOR))
    assert roomy.bulk.create(undo_of(deleted, ACTOR)) == first
    found = roomy.bulk.undo_of(deleted.id)
    assert found is not None
    assert (found.id, found.phase) == (first, BulkPhase.COLLECTING)
    roomy.bulk.change_phase(first, "abort")
    assert roomy.bulk.create(undo_of(deleted, ACTOR)) != first


def test_what_a_pause_and_an_abort_left_in_the_bin_comes_back_by_the_next_undo(roomy: Bench) -> None:
    bury(roomy.client, "mail", 400)
    deleted = roomy.run(roomy.spec(Action.DELETE))
    work_id = roomy.bulk.create(replace(undo_of(deleted, ACTOR), pace_per_s=200))
    runner = roomy.make_runner("here")
    turn_until(runner, lambda: roomy.bulk.get(work_id).at > 0, what="the first jobs")
    assert roomy.bulk.change_phase(work_id, "pause") is BulkPhase.PAUSED
    assert roomy.bulk.change_phase(work_id, "resume") is BulkPhase.RUNNING
    at = roomy.bulk.get(work_id).at
    turn_until(runner, lambda: roomy.bulk.get(work_id).at > at, what="more jobs")
    roomy.bulk.change_phase(work_id, "abort")
    turn_until(runner, lambda: roomy.actions.audit_log.list_events()[0].action == "undo", what="the record")
    aborted = roomy.bulk.get(work_id)
    assert 0 < aborted.done < 400
    assert len(roomy.dead()) == aborted.done == roomy.bulk.get(deleted.id).restored
    rest = roomy.run(undo_of(deleted, ACTOR))
    assert (rest.matched, rest.outcomes) == (400 - aborted.done, {"done": 400 - aborted.done})
    assert len(roomy.dead()) == 400
    assert roomy.bulk.get(deleted.id).restored == 400


def test_an_id_in_use_again_stays_in_the_bin(roomy: Bench) -> None:
    bury(roomy.client, "mail", 50)
    deleted = roomy.run(roomy.spec(Action.DELETE))
    bury(roomy.client, "mail", 1, start=7)
    assert roomy.run(undo_of(deleted, ACTOR)).outcomes == {"done": 49, "changed": 1}
    batch = batch_of(deleted.id, deleted.spec.job_lists[0], deleted.spec)
    assert roomy.actions.undo_bin.count_left([batch]) == {batch: 1}


def test_batches_of_no_bulk_come_back_too(roomy: Bench) -> None:
    ids = bury(roomy.client, "mail", 700)
    job_refs = [JobRef(id=each) for each in ids]
    batch = roomy.actions.on_jobs(ACTOR, roomy.ref(), State.DEAD, Action.DELETE, job_refs).batch
    assert batch is not None
    operation = roomy.run(undo_of_batches([batch], roomy.actions.undo_bin, ACTOR, "too soon"))
    assert (operation.matched, operation.outcomes) == (700, {"done": 700})
    assert roomy.dead() == ids
    event = roomy.actions.audit_log.list_events()[0]
    assert (event.action, event.reason, event.bulk_id) == ("undo", "too soon", operation.id)


def test_large_batches_are_not_restored_within_a_request(roomy: Bench) -> None:
    about = DeletedBatch(ref=roomy.ref(), state=State.DEAD, who="anna", at=0.0)

    def put(batch: str, count: int, size: int) -> None:
        jobs = [JobBackup(id=f"{batch}-{n}", version="1", blob=b"x" * size, size_bytes=size) for n in range(count)]
        assert roomy.actions.undo_bin.store_batch(batch, about, jobs)

    put("few", AT_ONCE_JOBS, 10)
    assert roomy.actions.undo_bin.is_small(["few", "nothing"])
    put("more", 1, 10)
    assert not roomy.actions.undo_bin.is_small(["few", "more"])
    put("heavy", 17, 1_000_000)
    assert not roomy.actions.undo_bin.is_small(["heavy"])
    parts = list(roomy.actions.undo_bin.read_backups("heavy", ["heavy-3", "absent", "heavy-1", "heavy-2"]))
    assert [[each if isinstance(each, str) else each.id for each in part] for part in parts] == [
        ["heavy-3", "absent"],
        ["heavy-1"],
        ["heavy-2"],
    ]


@pytest.mark.soak  # at a moment of luck; test_bulk_steps.py ends the process at every step
@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_is_lost_or_doubled_when_the_process_is_killed(server: EmbeddedRedis, library: str) -> None:
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        LIBRARIES[library][0](client, JOBS)
        before = picture(client)
        deleted = ran(parts, parts.spec(Action.DELETE))
        assert deleted.outcomes == {"done": JOBS}
        work_id = parts.works.create(replace(undo_of(deleted, ACTOR), pace_per_s=2_500))
        killed_half_way(server.url, library, parts, work_id)
        operation = parts.works.get(work_id)
        assert (operation.at, operation.outcomes) == (JOBS, {"done": JOBS})
        assert JOBS - 1_000 <= parts.works.get(deleted.id).restored <= JOBS
        assert picture(client) == before
        assert client.zcard("{queuedeck}:bin") == 0


@pytest.mark.parametrize("dropped", [False, True], ids=["before the bin forgot", "after"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_restored_batch_that_ran_is_not_restored_again(
    server: EmbeddedRedis, library: str, dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies when the jobs stand in their line again and before it says so; a worker takes all of them."""
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        WAIT[library](client, FEW)
        ids = WAITING[library](client)
        deleted = ran(parts, replace(parts.spec(Action.DELETE), job_lists=(waiting(parts),)))
        assert (deleted.outcomes, WAITING[library](client)) == ({"done": FEW}, [])
        work_id = parts.works.create(replace(undo_of(deleted, ACTOR), pace_per_s=2_000))
        killed = parts.runner("killed")
        dying: list[bool] = []

        def died(*_: Any, **__: Any) -> None:
            dying.append(True)
            raise KeyboardInterrupt  # no handler of ours holds it

        with monkeypatch.context() as patch:
            while parts.works.get(work_id).at < 100:
                killed.run_turn()
            at = parts.works.get(work_id).at
            patch.setattr(
                *((parts.works, "write_progress") if dropped else (parts.actions.undo_bin, "drop_jobs")), died
            )
            with pytest.raises(KeyboardInterrupt):
                wait_until(lambda: killed.run_turn() < 0, what="the next batch")
        assert dying
        assert parts.works.get(work_id).at == at
        ran_by_worker = WAITING[library](client)
        assert len(ran_by_worker) > at
        eaten(client, library)
        expire_lease(client, work_id)
        operation = ran(parts, work_id)
        assert (operation.phase, operation.at, operation.outcomes) == (BulkPhase.DONE, FEW, {"done": FEW})
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
def test_thousands_of_waiting_jobs_stand_in_their_order_again(
    server: EmbeddedRedis, library: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many == ENOUGH:
        monkeypatch.setattr(celery_waiting, "PLACE_KEPT_UP_TO", KEPT_UP_TO)
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        WAIT[library](client, many)
        ids = WAITING[library](client)
        for n, job_id in enumerate(ids if library == "rq" else ()):
            client.hset(f"rq:job:{job_id}", "enqueued_at", f"2026-01-01T00:00:00.{n:06}Z")
        deleted = ran(parts, replace(parts.spec(Action.DELETE), job_lists=(waiting(parts),)))
        assert (deleted.outcomes, WAITING[library](client)) == ({"done": many}, [])
        operation = ran(parts, undo_of(deleted, ACTOR))
        assert operation.outcomes == {"done": many}
        back = WAITING[library](client)
        if library == "celery":  # looks for places in lists of PLACE_KEPT_UP_TO messages alone
            assert sorted(back) == sorted(ids)
        else:
            assert back == ids
        assert parts.works.get(deleted.id).restored == many


def waiting(parts: Parts) -> JobListRef:
    """The line of the queue."""
    refs = parts.backend.discover_queues(None, Budget(100, 5)).found
    return JobListRef(ref=next(ref for ref in refs if ref.name == QUEUE), state=State.WAITING)


def ran(parts: Parts, what: BulkRequest | str) -> BulkOperation:
    """The work at its end."""
    work_id = what if isinstance(what, str) else parts.works.create(what)
    runner = parts.runner(f"runs {work_id}")
    runner.start()
    try:
        wait_until(lambda: parts.works.get(work_id).phase in ENDED, what="the end of the work")
    finally:
        runner.stop()
    return parts.works.get(work_id)


def eaten(client: redis.Redis, library: str) -> None:
    """A worker has run all that waits, and the library has forgotten it, as BullMQ does with `removeOnComplete`."""
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
