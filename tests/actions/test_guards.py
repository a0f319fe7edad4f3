"""Guards of bulk operations, trash and audit log, each with the one test that fails without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dashboard.actions import audit_log
from dashboard.actions.bulk.keys import LEASE_MS
from dashboard.actions.bulk.operation import ENDED, BulkPhase
from dashboard.actions.bulk.selection import MemberJob
from dashboard.actions.trash import SIZES, DeletedBatch
from dashboard.backends.actions import Action, ActionResult, JobBackup, JobRef
from dashboard.errors import BackendUnavailable, Conflict
from dashboard.model import QueueStats, Schedule, State, Worker, WorkerState
from tests.actions.conftest import ACTOR, Bench, expire_lease
from tests.actions.fake_backend import bury

CAP_BYTES = 1024 * 1024


def test_holding_an_operation_renews_its_lease(bench: Bench) -> None:
    bulk_id = bench.bulk_store.create(bench.request())
    assert bench.bulk_store.acquire_lease(bulk_id, "here")
    bench.client.pexpire(f"{{queuedeck}}:bulk:{bulk_id}:lease", 1_000)
    assert bench.bulk_store.renew_lease(bulk_id, "here") is not None
    assert 1_000 < bench.client.pttl(f"{{queuedeck}}:bulk:{bulk_id}:lease") <= LEASE_MS


@pytest.mark.parametrize("lost", ["to another process", "to time"])
def test_progress_of_a_process_that_lost_the_lease_is_refused(bench: Bench, lost: str) -> None:
    bulk_id = bench.bulk_store.create(bench.request())
    key = f"{{queuedeck}}:bulk:{bulk_id}"
    assert bench.bulk_store.acquire_lease(bulk_id, "here")
    bench.client.delete(f"{key}:lease")
    if lost == "to another process":
        assert bench.bulk_store.acquire_lease(bulk_id, "there")
    before = bench.client.hgetall(key), bench.client.get(f"{key}:lease")
    assert bench.bulk_store.renew_lease(bulk_id, "here") is None
    event = audit_log.build_event(ACTOR, "retry", bulk_id=bulk_id)
    progress: dict[str, Any] = {"processed": 7, "outcomes": {"done": 7}, "batch_start": 0, "event": event}
    assert (
        bench.bulk_store.write_progress(bulk_id, "here", expected=BulkPhase.COLLECTING, to=BulkPhase.DONE, **progress)
        is None
    )
    assert (bench.client.hgetall(key), bench.client.get(f"{key}:lease")) == before
    assert bench.bulk_store.jobs.list_batch_starts(bulk_id) == []
    assert bench.bulk_store.open_ids() == [bulk_id]
    assert bench.actions.audit_log.list_page().events == ()


@pytest.mark.parametrize(("jobs", "matched", "truncated"), [(4, 4, False), (5, 5, False), (6, 5, True), (9, 5, True)])
@pytest.mark.parametrize("q", [None, "body"])
def test_an_operation_processes_at_most_the_allowed_number_of_jobs(
    bench: Bench, jobs: int, matched: int, truncated: bool, q: str | None
) -> None:
    bury(bench.client, "mail", jobs)
    bulk_id = bench.bulk_store.create(bench.request(q=q))
    runner = bench.make_runner("here", most=5)
    while bench.bulk_store.get(bulk_id).phase not in ENDED:
        runner.run_turn()
    operation = bench.bulk_store.get(bulk_id)
    assert (operation.matched, operation.truncated, operation.outcomes) == (matched, truncated, {"done": matched})
    assert len(bench.dead()) == jobs - matched


def test_an_error_group_with_too_many_jobs_is_marked_truncated(bench: Bench) -> None:
    members = [MemberJob(bench.place(), JobRef(id=job_id)) for job_id in bury(bench.client, "mail", 6)]
    bulk_id = bench.bulk_store.create(bench.request(job_lists=(), fingerprint="0" * 16))
    runner = bench.make_runner("here", most=5)
    runner._collector._members_of = lambda _fingerprint, _places, most: members[:most]
    while bench.bulk_store.get(bulk_id).phase not in ENDED:
        runner.run_turn()
    operation = bench.bulk_store.get(bulk_id)
    assert (operation.matched, operation.truncated, operation.outcomes) == (5, True, {"done": 5})


def test_a_job_list_started_by_a_dead_process_is_built_again(bench: Bench) -> None:
    ids = bury(bench.client, "mail", 3)
    bulk_id = bench.bulk_store.create(bench.request())
    assert bench.bulk_store.acquire_lease(bulk_id, "died")
    assert bench.bulk_store.jobs.store_job_refs(bulk_id, "died", [(0, JobRef(id="gone since")), (0, JobRef(id=ids[0]))])
    expire_lease(bench.client, bulk_id)
    runner = bench.make_runner("here")
    while bench.bulk_store.get(bulk_id).phase not in ENDED:
        runner.run_turn()
    assert bench.bulk_store.get(bulk_id).outcomes == {"done": 3}


def obliterate_queue(bench: Bench) -> ActionResult:
    queue = QueueStats(source="main", backend="shelf", name="mail", key="shelf:mail")
    return bench.actions.on_queue(ACTOR, queue, Action.OBLITERATE, reason="old")


def remove_schedule(bench: Bench) -> ActionResult:
    schedule = Schedule(id="nightly", source="main", backend="shelf", kind="cron", queue="mail")
    return bench.actions.on_schedule(ACTOR, schedule, Action.REMOVE_SCHEDULE, reason="old").results[0]


def stop_worker(bench: Bench) -> ActionResult:
    worker = Worker(id="w1", source="main", backend="shelf", state=WorkerState.BUSY)
    return bench.actions.on_worker(ACTOR, worker, Action.STOP_WORKER, reason="old")


@pytest.mark.parametrize(
    ("act", "method", "expected"),
    [
        (obliterate_queue, "act_on_queue", ("obliterate", "mail", ())),
        (remove_schedule, "act_on_schedule", ("remove_schedule", "mail", ("nightly",))),
        (stop_worker, "act_on_worker", ("stop_worker", None, ("w1",))),
    ],
    ids=["queue", "schedule", "worker"],
)
@pytest.mark.parametrize(
    "error",
    [Conflict("It has active jobs."), BackendUnavailable("Redis main does not answer.", source="main", reason="lost")],
    ids=["refused", "unreachable"],
)
def test_a_failed_action_is_recorded(
    bench: Bench,
    act: Callable[[Bench], ActionResult],
    method: str,
    expected: tuple[object, ...],
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(bench.backend), "schedule_actions", (Action.REMOVE_SCHEDULE,))
    monkeypatch.setattr(type(bench.backend), "worker_actions", (Action.STOP_WORKER,))

    def fail(*_: object) -> ActionResult:
        raise error

    monkeypatch.setattr(bench.backend, method, fail)
    with pytest.raises(type(error)):
        act(bench)
    (event,) = bench.actions.audit_log.list_page().events
    assert (event.action, event.queue, event.ids) == expected
    assert (event.who, event.outcomes, event.detail, event.reason) == ("anna", {}, str(error), "old")


def test_restored_jobs_free_their_room_in_the_trash(bench: Bench) -> None:
    trash = bench.actions.trash
    jobs = [
        JobBackup(id=f"job-{n}", version="1", blob=b"x" * size, size_bytes=size)
        for n, size in enumerate((10, 500, 9_000))
    ]
    about = DeletedBatch(ref=bench.ref(), state=State.DEAD, who="anna", at=0.0)
    room = [trash.room_bytes()]
    for job in jobs:
        assert trash.store_batch("batch", about, [job])
        room.append(trash.room_bytes())
    assert room[0] == CAP_BYTES > room[1] > room[2] > room[3]
    trash.drop_jobs("batch", [jobs[2]])
    assert trash.room_bytes() == room[2]
    trash.drop_jobs("batch", [jobs[2]])  # an absent job frees no room
    assert trash.room_bytes() == room[2]
    trash.drop_jobs("batch", [jobs[0]])
    assert trash.room_bytes() == room[0] - (room[1] - room[2])
    trash.drop_jobs("batch", [jobs[1]])
    assert trash.room_bytes() == CAP_BYTES
    assert bench.client.hlen(SIZES) == 0
