"""Bulk operations: pace, pause, abort, canary, and continuation after the process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from dashboard.actions.bulk import batches, canary, collection, pacing
from dashboard.actions.bulk import runner as running
from dashboard.actions.bulk.keys import LEASE_MS
from dashboard.actions.bulk.operation import BulkPhase
from dashboard.actions.bulk.pacing import LEAST_BATCH
from dashboard.actions.bulk.selection import KnownDeadLetters, preview_jobs
from dashboard.actions.bulk.store import MAX_OPEN
from dashboard.actions.bulk.undo import undo_batch_of
from dashboard.actions.trash import DeletedBatch
from dashboard.backends.actions import MAX_BATCH, Action, ActionResult, JobBackup, JobRef
from dashboard.demo.embedded import die_with_parent
from dashboard.errors import Conflict
from dashboard.model import JobQuery, QueueRef, State, Window
from dashboard.sources.metering import READ_BYTES, Meter, measure_cost
from dashboard.sources.source import Source
from tests.actions.conftest import Bench, expire_lease, run_turns_until
from tests.actions.fake_backend import bury
from tests.processes import ROOT
from tests.waiting import wait_until


def test_all_jobs_of_a_state_are_retried_and_recorded_once(bench: Bench) -> None:
    ids = bury(bench.client, "mail", 2_500)
    operation = bench.run(bench.request(reason="fixed"))
    assert (operation.phase, operation.matched, operation.processed, operation.outcomes) == (
        BulkPhase.DONE,
        2_500,
        2_500,
        {"done": 2_500},
    )
    assert sorted(bench.waiting()) == sorted(ids)
    (event,) = bench.actions.audit_log.list_page().events
    assert (event.action, event.count, event.outcomes, event.bulk_id) == ("retry", 2_500, {"done": 2_500}, operation.id)
    assert event.reason == "fixed"
    assert bench.bulk_store.open_ids() == []


def test_jobs_added_after_the_start_are_not_touched(bench: Bench) -> None:
    bury(bench.client, "mail", 40)
    bulk_id = bench.bulk_store.create(bench.request(pace_per_s=100))
    runner = bench.make_runner("here")
    runner.start()
    wait_until(lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first jobs")
    bury(bench.client, "mail", 5, start=1_000)
    bench.reach(bulk_id, BulkPhase.DONE)
    assert bench.dead() == [f"job-{n}" for n in range(1_000, 1_005)]


def test_only_jobs_that_match_the_filter_are_retried(bench: Bench) -> None:
    bury(bench.client, "mail", 700, body="timeout")
    bury(bench.client, "mail", 700, body="refused", start=700)
    request = bench.request(q="refused")
    seen = preview_jobs(request, lambda _s, _n: bench.backend, lambda _f, _p: KnownDeadLetters((), True, 0, 0), 100_000)
    assert (seen.matched, seen.exact, seen.total) == (700, True, 1_400)
    assert [job.id for job in seen.samples] == ["job-700", "job-701", "job-702"]
    assert bench.run(request).outcomes == {"done": 700}
    assert bench.dead()[-1] == "job-699"


def test_selected_jobs_are_retried_if_their_version_matches(bench: Bench) -> None:
    bury(bench.client, "mail", 10)
    job_refs = (JobRef(id="job-2", version="3"), JobRef(id="job-3", version="77"), JobRef(id="absent"))
    operation = bench.run(bench.request(job_refs=job_refs))
    assert operation.outcomes == {"done": 1, "changed": 1, "gone": 1}


def test_jobs_of_several_queues_are_deleted(bench: Bench) -> None:
    bury(bench.client, "mail", 30)
    bury(bench.client, "news", 30)
    operation = bench.run(bench.request(Action.DELETE, job_lists=(bench.place("mail"), bench.place("news"))))
    assert operation.outcomes == {"done": 60}
    assert bench.dead("mail") + bench.dead("news") == []


def move_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Give all modules that run operations the monotonic clock of the test."""
    for module in (batches, canary, collection, running):
        monkeypatch.setattr(module, "monotonic_s", clock)


def test_pace_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 jobs at 50 per second, the first ones immediately, by a clock that the test moves."""
    bury(bench.client, "mail", 60)
    passed_s = 0.0
    move_clock(monkeypatch, lambda: passed_s)
    bulk_id = bench.bulk_store.create(bench.request(pace_per_s=50))
    runner = bench.make_runner("here")
    runner.run_turn()  # lists the jobs
    done = []
    while bench.bulk_store.get(bulk_id).phase is BulkPhase.RUNNING:
        for _ in range(3):
            runner.run_turn()  # more turns are not more jobs
        done.append((round(passed_s, 2), bench.bulk_store.get(bulk_id).processed))
        passed_s += 0.12
    assert done == [
        (0, 12),
        (0.12, 12),
        (0.24, 24),
        (0.36, 24),
        (0.48, 36),
        (0.6, 36),
        (0.72, 48),
        (0.84, 48),
        (0.96, 60),
    ]


def test_an_operation_pauses_resumes_and_aborts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the test makes every turn due."""
    passed_s = 0.0

    def next_time_s() -> float:
        nonlocal passed_s
        passed_s += 10.0
        return passed_s

    move_clock(monkeypatch, next_time_s)
    bury(bench.client, "mail", 2_000)
    bulk_id = bench.bulk_store.create(bench.request(pace_per_s=200))
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first jobs")
    assert bench.bulk_store.change_phase(bulk_id, "pause") is BulkPhase.PAUSED
    at = bench.bulk_store.get(bulk_id).processed
    for _ in range(5):
        runner.run_turn()
    assert bench.bulk_store.get(bulk_id).processed == len(bench.waiting()) == at < 2_000
    assert bench.bulk_store.change_phase(bulk_id, "resume") is BulkPhase.RUNNING
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed > at, what="more jobs")
    assert bench.bulk_store.change_phase(bulk_id, "abort") is BulkPhase.ABORTED
    run_turns_until(runner, lambda: bench.actions.audit_log.list_page().events, what="the record")
    operation = bench.bulk_store.get(bulk_id)
    assert len(bench.waiting()) == operation.done < 2_000
    assert len(bench.dead()) == 2_000 - operation.done
    with pytest.raises(Conflict, match="is aborted"):
        bench.bulk_store.change_phase(bulk_id, "resume")


@pytest.mark.parametrize(("failing", "phase"), [(0, BulkPhase.DONE), (1, BulkPhase.PAUSED)])
def test_failures_of_the_canary_pause_the_operation(bench: Bench, failing: int, phase: BulkPhase) -> None:
    bury(bench.client, "mail", 50)
    bulk_id = bench.bulk_store.create(bench.request(canary=10))
    runner = bench.make_runner("here")
    runner.start()
    bench.reach(bulk_id, BulkPhase.WATCHING)
    assert len(bench.waiting()) == 10
    worked = bench.waiting()
    if failing:
        bench.client.zadd("shelf:mail:dead", dict.fromkeys(worked[:failing], 1000))
    bench.client.delete("shelf:mail:list")  # the worker picked up all of them
    operation = bench.reach(bulk_id, phase)
    if phase is BulkPhase.PAUSED:
        assert operation.note == "Stopped: 1 of the first 10 failed again. The other jobs were not changed."
        assert (operation.canary_failed, operation.processed) == (1, 10)
        bench.bulk_store.change_phase(bulk_id, "resume")  # a user decides to continue
        bench.reach(bulk_id, BulkPhase.DONE)
    assert len(bench.waiting()) == 40


def test_a_canary_that_does_not_finish_pauses_the_operation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(bench.client, "mail", 50)
    bulk_id = bench.bulk_store.create(bench.request(canary=5, canary_wait_s=3_600))
    runner = bench.make_runner("here")
    run_turns_until(
        runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.WATCHING, what="the canary being watched"
    )
    # None has a result before the first check.
    assert canary.count_canary(bench.bulk_store.get(bulk_id)) == (0, 0, 5, 0)
    monkeypatch.setattr(canary, "WATCH_EVERY_S", 0.0)
    for _ in range(3):
        runner.run_turn()
    assert bench.bulk_store.get(bulk_id).phase is BulkPhase.WATCHING
    monkeypatch.setattr(canary, "now_s", lambda: time.time() + 3_601)
    run_turns_until(
        runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.PAUSED, what="the end of the watch"
    )
    operation = bench.bulk_store.get(bulk_id)
    assert operation.note == "5 of the first 5 have not finished yet. Resume to process the others."
    assert len(bench.waiting()) == 5


def test_a_bulk_delete_can_be_undone(bench: Bench) -> None:
    bury(bench.client, "mail", 1_200)
    operation = bench.run(bench.request(Action.DELETE))
    assert bench.dead() == []
    assert operation.undoable
    undo_batch = undo_batch_of(operation.id, operation.request.job_lists[0], operation.request)
    assert len(bench.actions.restore_batch(operation.request.actor, undo_batch).results) == 1_200
    assert len(bench.dead()) == 1_200


def test_a_full_trash_stops_a_delete_before_a_job_is_lost(bench: Bench) -> None:
    bury(bench.client, "mail", 30, body="x" * 100_000)
    operation = bench.run(bench.request(Action.DELETE, pace_per_s=4))
    assert operation.phase is BulkPhase.FAILED
    assert "The trash has no room" in (operation.note or "")
    kept = (
        bench.client.hlen(
            "{queuedeck}:bin:" + undo_batch_of(operation.id, operation.request.job_lists[0], operation.request)
        )
        - 1
    )
    assert len(bench.dead()) + kept == 30


def test_large_jobs_are_stored_in_the_trash_all_or_none(bench: Bench) -> None:
    jobs = [JobBackup(id=f"job-{n}", version="1", blob=b"x" * 600_000, size_bytes=600_000) for n in range(6)]
    about = DeletedBatch(ref=bench.ref(), state=State.DEAD, who="anna", at=0.0)
    bench.actions.trash._cap_bytes = 2_000_000
    assert not bench.actions.trash.store_batch("batch", about, jobs)
    assert bench.actions.trash.held_ids("batch", [job.id for job in jobs]) == set()
    assert bench.actions.trash.room_bytes() == 2_000_000
    bench.actions.trash._cap_bytes = 4_000_000
    with measure_cost() as meter:
        assert bench.actions.trash.store_batch("batch", about, jobs)
    assert meter.round_trips == 6  # no two of them fit into one script call
    assert bench.actions.trash.held_ids("batch", [job.id for job in jobs]) == {job.id for job in jobs}


def test_too_many_open_operations_are_refused(bench: Bench) -> None:
    for _ in range(MAX_OPEN):
        bench.bulk_store.create(bench.request())
    with pytest.raises(Conflict, match="unfinished bulk operations"):
        bench.bulk_store.create(bench.request())


@pytest.mark.parametrize(
    ("batch_limit", "size", "held_ms", "expected"),
    [
        (100, 100, 0.5, 200),  # at most twice as many
        (100, 100, 1.6, 125),  # as many as are expected to fit
        (100, 100, 4.0, 50),
        (100, 100, 300.0, LEAST_BATCH),
        (100, 5, 0.1, 100),  # a few jobs are too few to learn from
        (100, 50, 4.0, 25),
        (900, 900, 0.1, MAX_BATCH),
        (20, 20, 50.0, LEAST_BATCH),
    ],
)
def test_the_batch_size_follows_how_long_redis_was_blocked(
    batch_limit: int, size: int, held_ms: float, expected: int
) -> None:
    cost = Meter()
    cost.add(1, held_ms / 1000, 1_000)
    assert pacing.adapt_batch_limit(batch_limit, size, cost) == expected


def test_a_batch_of_short_scripts_is_limited_by_its_total_time() -> None:
    cost = Meter()
    cost.add(40, 0.040, 40 * READ_BYTES)  # each a millisecond, and read by itself
    assert cost.held_s == pytest.approx(0.001)
    assert pacing.adapt_batch_limit(300, 300, cost) == 600
    cost.add(160, 0.160, 160 * READ_BYTES)
    assert pacing.adapt_batch_limit(300, 300, cost) == 150
    several = Meter()
    several.add(10, 0.010, READ_BYTES)  # all ten run before other clients are served
    assert several.held_s == pytest.approx(0.010)


def test_network_latency_does_not_make_batches_smaller(source: Source) -> None:
    cost = Meter()
    cost.add(1, 0.081, 1_000, 0.080)
    assert (cost.seconds, cost.held_s) == (0.081, pytest.approx(0.001))
    assert pacing.adapt_batch_limit(100, 100, cost) > 190
    for _ in range(50):
        source.execute("PING")  # the fastest of them is the network latency
    with measure_cost() as near:
        source.execute("PING")
    assert near.held_s < near.seconds
    with measure_cost() as search_slowly:
        source.execute("EVAL", "for n = 1, 5000000 do end", 0)
    assert search_slowly.seconds > 0.005
    assert search_slowly.seconds * 0.5 < search_slowly.held_s == search_slowly.busy_s


def test_two_runners_process_each_job_once(bench: Bench) -> None:
    bury(bench.client, "mail", 3_000)
    bulk_id = bench.bulk_store.create(bench.request())
    runners = [bench.make_runner(name) for name in ("one", "two")]
    for runner in runners:
        runner.start()
    assert bench.reach(bulk_id, BulkPhase.DONE).outcomes == {"done": 3_000}
    assert len(bench.waiting()) == len(set(bench.waiting())) == 3_000


RUNS = """
import sys, time
from dashboard.actions.service import ActionService
from dashboard.actions.audit_log import AuditLog
from dashboard.actions.trash import Trash
from dashboard.actions.bulk.runner import BulkRunner
from dashboard.actions.bulk.store import BulkStore
from dashboard.store.redis_store import Store
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.actions.fake_backend import Shelf
source = Source("main", sys.argv[1])
backend = Shelf(source, SourceSettings(name="main", url=sys.argv[1]))
store = Store(source)
actions = ActionService(lambda s, n: backend, Trash(store, 64 << 20), AuditLog(source))
bulk_store = BulkStore(store)
runner = BulkRunner(bulk_store, actions, lambda s, n: backend, lambda f, p, m: (), lambda s, n: (), "other", 100_000)
# It never reaches the end, however late it is killed.
while bulk_store.get(sys.argv[2]).processed < 1_500:
    time.sleep(runner.run_turn())
time.sleep(600)
"""


@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
def test_another_process_finishes_an_operation_whose_process_is_killed(bench: Bench, action: Action) -> None:
    bury(bench.client, "mail", 3_000)
    bulk_id = bench.bulk_store.create(bench.request(action, pace_per_s=2_000))
    url = f"redis://127.0.0.1:{bench.client.get_connection_kwargs()['port']}/0"
    process = subprocess.Popen([sys.executable, "-c", RUNS, url, bulk_id], cwd=ROOT, preexec_fn=die_with_parent())
    try:
        wait_until(lambda: bench.bulk_store.get(bulk_id).processed > 0, what="the first batch")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    at = bench.bulk_store.get(bulk_id).processed
    assert at < 3_000
    expire_lease(bench.client, bulk_id)
    runner = bench.make_runner("here")
    runner.start()
    operation = bench.reach(bulk_id, BulkPhase.DONE)
    assert operation.processed == 3_000
    # At most the batch in progress is reported as done by another process.
    assert 3_000 - operation.done <= 1_000
    if action is Action.RETRY:
        assert len(bench.waiting()) == len(set(bench.waiting())) == 3_000
        assert bench.dead() == []
    else:
        undo_batch = undo_batch_of(operation.id, operation.request.job_lists[0], operation.request)
        assert operation.done == 3_000
        bench.actions.trash._cap_bytes = 64 << 20
        assert len(bench.actions.restore_batch(operation.request.actor, undo_batch).results) == 3_000
        assert len(bench.dead()) == 3_000


def test_a_long_search_for_few_jobs_keeps_the_lease(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(bench.client, "mail", 3_000)
    bury(bench.client, "mail", 3, body="needle", start=3_000)
    window, searches, passed_s = bench.backend.search_page, 0, 0.0
    move_clock(monkeypatch, lambda: time.monotonic() + passed_s)

    def search_slowly(ref: QueueRef, query: JobQuery) -> Window:
        """A page of the search that takes half the time of a lease, by the clocks of both sides only."""
        nonlocal searches, passed_s
        searches, passed_s = searches + 1, passed_s + LEASE_MS / 2000
        (lease,) = bench.client.scan_iter("{queuedeck}:bulk:*:lease", count=1000)
        bench.client.pexpire(lease, bench.client.pttl(lease) - LEASE_MS // 2)
        return window(ref, query)

    monkeypatch.setattr(bench.backend, "search_page", search_slowly)
    operation = bench.run(bench.request(q="needle"))
    assert (operation.matched, operation.outcomes) == (3, {"done": 3})
    assert searches > 3  # more than one lease would last


def test_a_runner_that_lost_the_lease_changes_nothing(bench: Bench) -> None:
    bury(bench.client, "mail", 500)
    bulk_id = bench.bulk_store.create(bench.request(Action.DELETE))
    runner = bench.make_runner("here")
    while bench.bulk_store.get(bulk_id).phase is BulkPhase.COLLECTING:
        runner.run_turn()
    at = bench.bulk_store.get(bulk_id).processed
    bench.client.set(f"{{queuedeck}}:bulk:{bulk_id}:lease", "another")
    runner.run_turn()
    assert len(bench.dead()) == 500 - at
    assert not bench.bulk_store.jobs.store_job_refs(bulk_id, "here", [(0, JobRef(id="x"))])


def test_a_pause_during_the_last_batch_records_one_event(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(bench.client, "mail", 10)
    bulk_id = bench.bulk_store.create(bench.request())
    runner = bench.make_runner("here")
    step = bench.actions.run_batch

    def pause_then_run(*arguments: Any, **more: Any) -> list[ActionResult]:
        bench.bulk_store.change_phase(bulk_id, "pause")
        return step(*arguments, **more)

    monkeypatch.setattr(bench.actions, "run_batch", pause_then_run)
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed == 10, what="the last batch")
    assert bench.bulk_store.get(bulk_id).phase is BulkPhase.PAUSED
    bench.bulk_store.change_phase(bulk_id, "resume")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.DONE, what="the end")
    (event,) = bench.actions.audit_log.list_page().events
    assert event.outcomes == {"done": 10}


def test_the_audit_log_names_the_first_jobs_of_an_operation_and_its_undo(bench: Bench) -> None:
    ids = bury(bench.client, "mail", 150)
    operation = bench.run(bench.request(Action.DELETE))
    undo_batch = undo_batch_of(operation.id, operation.request.job_lists[0], operation.request)
    bench.actions.restore_batch(operation.request.actor, undo_batch, bulk_id=operation.id)
    undone, deleted = bench.actions.audit_log.list_page().events
    assert deleted.ids == tuple(ids[:100])
    assert (undone.action, undone.count, undone.bulk_id, len(undone.ids)) == ("undo", 150, operation.id, 100)
    assert set(undone.ids) <= set(ids)
