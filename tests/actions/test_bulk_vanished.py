"""A bulk operation whose record is gone from Redis ends, and no other operation waits for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from dashboard.actions.bulk.keys import ALL, KEEP_S, OPEN
from dashboard.actions.bulk.operation import BulkPhase
from dashboard.actions.bulk.runner import BulkRunner
from dashboard.actions.bulk.store import MAX_OPERATIONS, BulkOperationNotFound
from dashboard.actions.bulk.undo import build_undo
from dashboard.backends.actions import Action, ActionResult
from tests.actions.conftest import ACTOR, Bench, run_turns_until
from tests.actions.fake_backend import bury
from tests.waiting import wait_until

JOBS = 40
LOST: dict[str, Callable[[Bench, str], object]] = {
    "record deleted": lambda bench, bulk_id: bench.client.delete(record(bulk_id)),
    "record and lease deleted": lambda bench, bulk_id: bench.client.delete(record(bulk_id), f"{record(bulk_id)}:lease"),
    "everything flushed": lambda bench, _: bench.client.flushall(),
}
lost_by = pytest.mark.parametrize("lose", LOST.values(), ids=LOST)


def record(bulk_id: str) -> str:
    return f"{{queuedeck}}:bulk:{bulk_id}"


def is_dropped(bench: Bench, runner: BulkRunner, bulk_id: str) -> bool:
    return bulk_id not in bench.bulk_store.open_ids() and bulk_id not in runner._running


def check_that_a_new_operation_runs(bench: Bench, runner: BulkRunner) -> None:
    bury(bench.client, "news", JOBS)
    bulk_id = bench.bulk_store.create(bench.request(job_lists=(bench.place("news"),)))
    run_turns_until(
        runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="the end of the new operation"
    )
    assert bench.bulk_store.get(bulk_id).outcomes == {"done": JOBS}


def check_that_no_key_is_left(bench: Bench, bulk_id: str) -> None:
    assert not bench.client.exists(record(bulk_id), f"{record(bulk_id)}:lease")


@lost_by
@pytest.mark.parametrize("phase", [BulkPhase.COLLECTING, BulkPhase.RUNNING, BulkPhase.WATCHING, BulkPhase.PAUSED])
def test_an_operation_that_vanishes_between_turns_is_dropped(
    bench: Bench, phase: BulkPhase, lose: Callable[[Bench, str], object], caplog: pytest.LogCaptureFixture
) -> None:
    bury(bench.client, "mail", JOBS)
    canary = {"canary": 5, "canary_wait_s": 3600} if phase is BulkPhase.WATCHING else {}
    bulk_id = bench.bulk_store.create(bench.request(pace_per_s=4, **canary))
    runner = bench.make_runner("here")
    if phase is BulkPhase.COLLECTING:
        bench.bulk_store.acquire_lease(bulk_id, "here")
    else:
        run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first batch")
    if phase is BulkPhase.WATCHING:
        run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is phase, what="the canary")
    if phase is BulkPhase.PAUSED:
        bench.bulk_store.change_phase(bulk_id, "pause")
    caplog.set_level(logging.WARNING, "dashboard.actions.bulk.runner")
    lose(bench, bulk_id)
    if phase is BulkPhase.COLLECTING:
        bench.client.delete(f"{record(bulk_id)}:lease")
    run_turns_until(runner, lambda: is_dropped(bench, runner, bulk_id), what="the operation being dropped")
    check_that_no_key_is_left(bench, bulk_id)
    check_that_a_new_operation_runs(bench, runner)
    flushed_before_pickup = phase is BulkPhase.COLLECTING and lose is LOST["everything flushed"]
    assert caplog.messages.count(f"bulk operation {bulk_id} dropped: its record no longer exists in Redis") == (
        0 if flushed_before_pickup else 1
    )


@lost_by
@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
def test_an_operation_that_vanishes_during_a_batch_is_dropped(
    bench: Bench, action: Action, lose: Callable[[Bench, str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request(action, pace_per_s=4))
    runner = bench.make_runner("here")
    step = bench.actions.run_batch

    def lose_record_first(*arguments: Any, **more: Any) -> list[ActionResult]:
        lose(bench, bulk_id)
        return step(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(bench.actions, "run_batch", lose_record_first)
        run_turns_until(runner, lambda: is_dropped(bench, runner, bulk_id), what="the operation being dropped")
    check_that_no_key_is_left(bench, bulk_id)
    check_that_a_new_operation_runs(bench, runner)


def test_an_operation_that_vanishes_while_its_jobs_are_listed_changes_no_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request())
    runner = bench.make_runner("here")
    window = bench.backend.search_page

    def lose_record_first(*arguments: Any) -> Any:
        bench.client.delete(record(bulk_id))
        return window(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(bench.backend, "search_page", lose_record_first)
        run_turns_until(runner, lambda: is_dropped(bench, runner, bulk_id), what="the operation being dropped")
    check_that_no_key_is_left(bench, bulk_id)
    assert len(bench.dead()) == JOBS
    check_that_a_new_operation_runs(bench, runner)


def test_an_operation_that_vanishes_after_its_abort_is_dropped(bench: Bench) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request(pace_per_s=4))
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first batch")
    bench.bulk_store.change_phase(bulk_id, "abort")
    bench.client.delete(record(bulk_id))
    run_turns_until(runner, lambda: is_dropped(bench, runner, bulk_id), what="the operation being dropped")
    check_that_a_new_operation_runs(bench, runner)


def test_aborting_an_operation_that_vanished_since_it_was_read_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk_id = bench.bulk_store.create(bench.request())
    get = bench.bulk_store.get

    def get_then_delete(bulk_id: str) -> Any:
        found = get(bulk_id)
        bench.client.delete(record(bulk_id))
        return found

    monkeypatch.setattr(bench.bulk_store, "get", get_then_delete)
    with pytest.raises(BulkOperationNotFound):
        bench.bulk_store.change_phase(bulk_id, "abort")
    assert not bench.client.exists(record(bulk_id))


@pytest.mark.parametrize("lost_before", ["the start", "a restart"])
def test_an_open_operation_without_a_record_does_not_block_the_next(bench: Bench, lost_before: str) -> None:
    bury(bench.client, "mail", JOBS)
    behind = bench.bulk_store.create(bench.request())
    if lost_before == "a restart":
        first = bench.make_runner("before")
        first.run_turn()
        first.stop()
        bench.client.delete(f"{record(behind)}:lease")
    bench.client.sadd(OPEN, "000000000000")
    assert bench.bulk_store.open_ids() == ["000000000000", behind]
    runner = bench.make_runner("here")
    run_turns_until(
        runner, lambda: bench.bulk_store.get(behind).phase is BulkPhase.DONE, what="the end of the operation"
    )
    assert bench.bulk_store.open_ids() == []
    assert not bench.client.exists(f"{record('000000000000')}:lease")


def test_an_undo_continues_without_the_record_of_its_delete(bench: Bench) -> None:
    ids = bury(bench.client, "mail", JOBS)
    deleted = bench.run(bench.request(Action.DELETE))
    undo = bench.bulk_store.create(replace(build_undo(deleted, ACTOR), pace_per_s=40))
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(undo).processed > 0, what="the first restored jobs")
    bench.client.delete(record(deleted.id))
    run_turns_until(runner, lambda: bench.bulk_store.get(undo).phase is BulkPhase.DONE, what="the undo's end")
    assert bench.dead() == ids
    assert not bench.client.exists(record(deleted.id))


def test_a_delete_can_be_undone_again_after_its_undo_vanished(bench: Bench) -> None:
    ids = bury(bench.client, "mail", JOBS)
    deleted = bench.run(bench.request(Action.DELETE))
    first = bench.bulk_store.create(build_undo(deleted, ACTOR))
    bench.client.delete(record(first))
    second = bench.bulk_store.create(build_undo(deleted, ACTOR))
    assert second != first
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(second).phase is BulkPhase.DONE, what="the undo's end")
    assert (bench.dead(), bench.bulk_store.open_ids()) == (ids, [])


def test_a_record_of_another_version_is_left_to_other_processes(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bury(bench.client, "mail", JOBS)
    request = bench.client.hget(record(other := bench.bulk_store.create(bench.request())), "request")
    bench.client.hset(record(other), "request", b"\x00 of a later version")
    runner = bench.make_runner("here")
    for _ in range(3):
        runner.run_turn()
    assert bench.bulk_store.open_ids() == [other]
    assert not bench.client.exists(f"{record(other)}:lease")
    assert caplog.messages == [f"bulk operation {other} left to other processes: its record cannot be read"]
    check_that_a_new_operation_runs(bench, runner)
    assert request is not None
    bench.client.hset(record(other), "request", request)
    run_turns_until(
        bench.make_runner("later"), lambda: bench.bulk_store.get(other).phase is BulkPhase.DONE, what="its end"
    )


@pytest.mark.parametrize("phase", [BulkPhase.RUNNING, BulkPhase.PAUSED])
def test_keys_of_an_open_operation_do_not_expire(bench: Bench, phase: BulkPhase) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request(Action.DELETE, pace_per_s=4))
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first batch")
    if phase is BulkPhase.PAUSED:
        bench.bulk_store.change_phase(bulk_id, "pause")
    keys = [record(bulk_id), f"{record(bulk_id)}:picks", f"{record(bulk_id)}:rounds"]
    for key in keys:
        assert bench.client.expire(key, 3600)
    run_turns_until(
        runner, lambda: all(bench.client.ttl(key) > 3600 for key in keys), what="the later expiry of the keys"
    )
    assert all(bench.client.ttl(key) <= KEEP_S for key in keys)


def test_the_list_of_operations_keeps_open_ones_when_it_is_full(bench: Bench) -> None:
    old, ended = bench.bulk_store.create(bench.request()), bench.bulk_store.create(bench.request())
    bench.bulk_store.change_phase(ended, "abort")
    bench.client.zadd(ALL, {old: 1, ended: 1})  # long ago
    bench.client.zadd(ALL, {f"more-{n}": 2**40 + n for n in range(MAX_OPERATIONS)})
    bench.bulk_store.create(bench.request())
    assert bench.client.zscore(ALL, old) == 1
    assert bench.client.zscore(ALL, ended) is None


def test_a_runner_continues_after_a_flush(bench: Bench) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request(pace_per_s=4))
    runner = bench.make_runner("here")
    runner.start()
    wait_until(lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first batch")
    bench.client.flushall()
    bury(bench.client, "news", JOBS)
    later = bench.bulk_store.create(bench.request(job_lists=(bench.place("news"),)))
    wait_until(lambda: bench.bulk_store.get(later).phase is BulkPhase.DONE, what="the end of the new operation")
