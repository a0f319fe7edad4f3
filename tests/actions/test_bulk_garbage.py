"""Bulk operations survive garbage in their own keys, and the loss of a lease or of a list of operations."""

from __future__ import annotations

import pytest

from dashboard.actions.bulk.keys import ALL, KEEP_S, OPEN
from dashboard.actions.bulk.operation import ENDED, BulkPhase, JobListRef
from dashboard.actions.bulk.runner import BulkRunner
from dashboard.backends.actions import Action
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.model import QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.actions.conftest import Bench, run_turns_until
from tests.actions.fake_backend import bury
from tests.actions.test_bulk_vanished import record

JOBS = 40


@pytest.mark.parametrize("lost", [ALL, OPEN])
@pytest.mark.parametrize("as_type", [None, "string"])
def test_an_operation_runs_after_a_list_of_operations_was_lost(bench: Bench, lost: str, as_type: str | None) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request())
    bench.client.delete(lost)
    if as_type:
        bench.client.set(lost, "garbage")
    run_turns_until(
        bench.make_runner("here"), lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="its end"
    )
    assert bench.bulk_store.open_ids() == []
    assert [operation.id for operation in bench.bulk_store.list_newest()] == [bulk_id]


def test_a_lease_without_expiry_is_removed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request())
    bench.client.set(f"{record(bulk_id)}:lease", "copied with the database")
    run_turns_until(
        bench.make_runner("here"), lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="its end"
    )
    assert [line for line in caplog.messages if line.startswith("own key")] == [
        f"own key {record(bulk_id)}:lease did not expire in time: removed"
    ]


@pytest.mark.parametrize(
    "field", ["processed", "matched", "outcomes:done", "scanned", "restored", "ended_at", "watch_until"]
)
@pytest.mark.parametrize("value", [b"nan", b"9" * 400])
def test_an_operation_ends_despite_one_bad_field(bench: Bench, field: str, value: bytes) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request(Action.DELETE))
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first batch")
    bench.client.hset(record(bulk_id), field, value)
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="its end")
    if field != "matched":  # without it the number of jobs is unknown
        assert bench.dead() == []


def test_an_unreadable_record_expires(bench: Bench) -> None:
    bulk_id = bench.bulk_store.create(bench.request())
    bench.client.hset(record(bulk_id), "request", b"\x00 of a later version")
    bench.client.persist(record(bulk_id))
    bench.make_runner("here").run_turn()
    assert 0 < bench.client.ttl(record(bulk_id)) <= KEEP_S


def test_a_garbage_entry_of_the_job_list_costs_only_that_job(bench: Bench) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request())
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.RUNNING, what="the list")
    bench.client.lset(f"{record(bulk_id)}:picks", 20, b"\xff garbage")
    bench.client.lset(f"{record(bulk_id)}:picks", 30, b"\x93\xcd\x03\xe8\xc4\x01x\xc0")  # of list 1000
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is not BulkPhase.RUNNING, what="its end")
    operation = bench.bulk_store.get(bulk_id)
    assert (operation.phase, operation.done) == (BulkPhase.DONE, JOBS - 2)


def test_an_operation_on_a_key_of_the_wrong_type_fails_with_the_reason(bench: Bench, source: Source) -> None:
    settings = SourceSettings(name="main", url="redis://127.0.0.1")
    bullmq = BullMQ(source, settings)
    bench.client.hset("bull:mail:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10_000})
    bench.client.set("bull:mail:failed", "something else")
    ref = QueueRef(source="main", backend="bullmq", name="mail", key="bull:mail")
    request = bench.request(q="boom", job_lists=(JobListRef(ref=ref, state=State.DEAD),))
    runner = BulkRunner(
        bench.bulk_store, bench.actions, lambda _s, _n: bullmq, lambda _f, _p, _m: (), lambda _s, _n: (), "here", 100
    )
    bulk_id = bench.bulk_store.create(request)
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase in ENDED, what="its end")
    operation = bench.bulk_store.get(bulk_id)
    assert operation.phase is BulkPhase.FAILED
    assert "its key has the wrong type" in (operation.note or "")
    runner.stop()
