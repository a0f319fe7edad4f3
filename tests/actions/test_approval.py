"""Destructive bulk operations on many jobs wait until a second person approves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dashboard.actions.approval import APPROVAL_S, ApprovalNeeded, ApprovalRule
from dashboard.actions.bulk import runner as running
from dashboard.actions.bulk.collection import JobCollector
from dashboard.actions.bulk.operation import BulkOperation, BulkPhase
from dashboard.actions.bulk.runner import NOT_APPROVED, BulkRunner
from dashboard.actions.bulk.store import BulkStore, SamePerson
from dashboard.actions.service import count_jobs
from dashboard.backends.actions import Action, JobRef
from dashboard.clock import now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable, Conflict
from dashboard.model import Counts, NativeCount, QueueStats, State
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.actions.conftest import ACTOR, Bench, before_exchange, run_turns_until
from tests.actions.fake_backend import bury

OVER = 10
BEN = "ben"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(running, "WAIT_FOR_REDIS_S", 0.0)


@pytest.fixture
def store(source: Source) -> BulkStore:
    """The operations, of which destructive ones on more than OVER jobs need approval."""
    return BulkStore(Store(source), approval_over=OVER)


@pytest.fixture
def waiting(bench: Bench, store: BulkStore) -> Callable[..., tuple[str, BulkRunner]]:
    """Starts a deletion of all dead jobs, and runs it until it waits."""

    def start(holder: str = "here", jobs: int = 20) -> tuple[str, BulkRunner]:
        bury(bench.client, "mail", jobs)
        bulk_id = store.create(bench.request(Action.DELETE, reason="old"))
        runner = bench.make_runner(holder)
        run_turns_until(runner, lambda: store.get(bulk_id).phase is BulkPhase.APPROVAL, what="waiting for approval")
        return bulk_id, runner

    return start


Waiting = Callable[..., tuple[str, BulkRunner]]


def finish(runner: BulkRunner, store: BulkStore, bulk_id: str) -> BulkOperation:
    run_turns_until(runner, lambda: store.get(bulk_id).ended_at is not None, what="the end")
    runner.run_turn()
    return store.get(bulk_id)


def test_nothing_is_deleted_before_someone_else_approves_and_then_only_what_was_listed(
    bench: Bench, store: BulkStore, waiting: Waiting
) -> None:
    bulk_id, runner = waiting()
    for _ in range(3):
        runner.run_turn()
    operation = store.get(bulk_id)
    assert (operation.matched, operation.processed, len(bench.dead())) == (20, 0, 20)
    assert operation.approval_until == pytest.approx(now_s() + APPROVAL_S, abs=120)
    bury(bench.client, "mail", 5, start=100)
    assert store.change_phase(bulk_id, "approve", who=BEN) is BulkPhase.RUNNING
    ended = finish(runner, store, bulk_id)
    assert (ended.phase, ended.outcomes, ended.approved_by) == (BulkPhase.DONE, {"done": 20}, BEN)
    assert bench.dead() == [f"job-{n}" for n in range(100, 105)]
    last, asked = bench.actions.audit_log.list_page().events
    assert (asked.action, asked.count, asked.who, asked.reason) == (
        "bulk operation waits for approval",
        20,
        ACTOR.name,
        "old",
    )
    assert (last.action, last.detail) == ("delete", "done; approved by ben")


@pytest.mark.parametrize(("action", "jobs"), [(Action.DELETE, OVER), (Action.RETRY, 3 * OVER)])
def test_few_jobs_and_actions_that_destroy_nothing_need_no_approval(
    bench: Bench, store: BulkStore, action: Action, jobs: int
) -> None:
    bury(bench.client, "mail", jobs)
    bulk_id = store.create(bench.request(action))
    assert finish(bench.make_runner("here"), store, bulk_id).outcomes == {"done": jobs}


def test_who_started_it_cannot_approve_or_reject_but_withdraw_it(
    bench: Bench, store: BulkStore, waiting: Waiting
) -> None:
    bulk_id, runner = waiting()
    for command in ("approve", "reject"):
        for who in (ACTOR.name, ACTOR.name.upper()):
            with pytest.raises(SamePerson):
                store.change_phase(bulk_id, command, who=who)
    for command in ("pause", "resume"):
        with pytest.raises(Conflict, match="waiting for approval"):
            store.change_phase(bulk_id, command)
    assert store.change_phase(bulk_id, "abort") is BulkPhase.ABORTED
    assert finish(runner, store, bulk_id).outcomes == {}
    assert len(bench.dead()) == 20


@pytest.mark.parametrize("command", ["pause", "abort"])
def test_a_pause_while_its_jobs_are_listed_does_not_replace_the_approval(
    bench: Bench, store: BulkStore, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    bury(bench.client, "mail", 20)
    bulk_id = store.create(bench.request(Action.DELETE))
    finish_collection = JobCollector._finish_collection

    def finish_late(collector: Any, operation: BulkOperation, collected: Any) -> BulkPhase | None:
        monkeypatch.undo()
        store.change_phase(bulk_id, command)
        return finish_collection(collector, operation, collected)

    monkeypatch.setattr(JobCollector, "_finish_collection", finish_late)
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: store.get(bulk_id).phase is not BulkPhase.COLLECTING, what="the command")
    if command == "abort":
        assert finish(runner, store, bulk_id).phase is BulkPhase.ABORTED
    else:
        assert store.get(bulk_id).approval_until is None
        assert store.change_phase(bulk_id, "resume") is BulkPhase.COLLECTING
        run_turns_until(runner, lambda: store.get(bulk_id).phase is BulkPhase.APPROVAL, what="waiting for approval")
        store.change_phase(bulk_id, "abort")
    assert len(bench.dead()) == 20


def test_without_approval_nothing_runs_however_it_came_to_that_phase(
    bench: Bench, store: BulkStore, waiting: Waiting
) -> None:
    """As if an older copy of the store were restored."""
    bulk_id, runner = waiting()
    store.change_phase(bulk_id, "approve", who=BEN)
    bench.client.hdel(f"{{queuedeck}}:bulk:{bulk_id}", "approved_by", "before", "approval_until")
    run_turns_until(runner, lambda: store.get(bulk_id).phase is BulkPhase.APPROVAL, what="waiting for approval")
    assert len(bench.dead()) == 20
    store.change_phase(bulk_id, "approve", who=BEN)
    assert finish(runner, store, bulk_id).outcomes == {"done": 20}


def test_a_rejected_operation_ends_and_cannot_be_approved_any_more(
    bench: Bench, store: BulkStore, waiting: Waiting
) -> None:
    bulk_id, runner = waiting()
    assert store.change_phase(bulk_id, "reject", who=BEN) is BulkPhase.ABORTED
    with pytest.raises(Conflict, match="does not wait for approval"):
        store.change_phase(bulk_id, "approve", who=BEN)
    ended = finish(runner, store, bulk_id)
    assert (ended.note, ended.approved_by, ended.outcomes) == ("Rejected by ben", None, {})
    assert store.open_ids() == []
    assert len(bench.dead()) == 20


def test_without_approval_in_time_it_ends(bench: Bench, store: BulkStore, waiting: Waiting) -> None:
    bulk_id, runner = waiting()
    bench.client.hset(f"{{queuedeck}}:bulk:{bulk_id}", "approval_until", now_s() - 1)
    with pytest.raises(Conflict, match="does not wait for approval"):
        store.change_phase(bulk_id, "approve", who=BEN)
    ended = finish(runner, store, bulk_id)
    assert (ended.phase, ended.note, len(bench.dead())) == (BulkPhase.ABORTED, NOT_APPROVED, 20)


@pytest.mark.parametrize("first", ["reject", "abort"])
def test_of_an_approval_and_its_opposite_at_every_step_only_one_has_effect(
    bench: Bench,
    server: EmbeddedRedis,
    source: Source,
    store: BulkStore,
    waiting: Waiting,
    first: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_source = Source("main", server.url)
    other = BulkStore(Store(other_source), approval_over=OVER)
    won, number, reached = set(), -1, [0]
    while reached:
        number += 1
        bench.client.flushall()
        bulk_id, runner = waiting(f"runner {number}")

        def say_no(bulk_id: str = bulk_id) -> None:
            other.change_phase(bulk_id, first, who="cleo")

        with monkeypatch.context() as patch:
            reached = before_exchange(source, number, say_no, patch)
            try:
                store.change_phase(bulk_id, "approve", who=BEN)
                approved = True
            except Conflict:
                approved = False
        ended = finish(runner, store, bulk_id)
        won.add(approved)
        assert (ended.outcomes, len(bench.dead())) == (({"done": 20}, 0) if approved else ({}, 20))
        assert (ended.approved_by == BEN) == approved
    other_source.close()
    assert number == 2
    assert won == {True, False}


def test_another_process_continues_to_wait_and_people_are_asked_again_if_that_failed(
    bench: Bench, store: BulkStore, waiting: Waiting
) -> None:
    bulk_id, former = waiting()
    former.run_turn()
    bench.client.delete(f"{{queuedeck}}:bulk:{bulk_id}:lease")  # the process died
    asked: list[int] = []

    def ask(operation: BulkOperation) -> None:
        asked.append(operation.matched)
        if len(asked) == 1:
            raise BackendUnavailable("gone", source="main", reason="lost")

    runner = bench.make_runner("there", ask=ask)
    run_turns_until(runner, lambda: len(asked) == 2, what="the second request")
    for _ in range(3):
        runner.run_turn()
    assert asked == [20, 20]
    store.change_phase(bulk_id, "approve", who=BEN)
    assert finish(runner, store, bulk_id).outcomes == {"done": 20}


def test_no_other_way_deletes_as_many_without_approval(bench: Bench) -> None:
    bench.actions.approval = ApprovalRule(OVER)
    bury(bench.client, "mail", OVER + 1)
    job_refs = [JobRef(id=each) for each in bench.dead()]
    with pytest.raises(ApprovalNeeded, match="More than 10 jobs"):
        bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs)
    (queue,) = bench.backend.read_stats([bench.ref()])
    with pytest.raises(ApprovalNeeded, match="queue with more than 10 jobs"):
        bench.actions.on_queue(ACTOR, queue, Action.OBLITERATE)
    assert len(bench.dead()) == OVER + 1
    assert not bench.actions.audit_log.list_page().events
    bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs[:OVER])
    assert len(bench.dead()) == 1


@pytest.mark.parametrize(
    ("fields", "jobs"),
    [
        ({"counts": Counts(waiting=3, dead=4)}, 7),
        ({}, None),
        ({"counts": Counts(waiting=3), "error": "wait is a string"}, None),
        ({"native": (NativeCount(native="wait", state=State.WAITING, count=None),)}, None),
        ({"native": (NativeCount(native="wait", state=State.WAITING, count=2),), "counts": Counts(waiting=9)}, 2),
    ],
)
def test_the_jobs_of_a_queue_are_known_only_if_all_its_lists_are(fields: dict[str, object], jobs: int | None) -> None:
    queue = QueueStats(source="main", backend="shelf", name="mail", key="shelf:mail", **fields)  # type: ignore[arg-type]
    assert count_jobs(queue) == jobs
    assert ApprovalRule(OVER).needs(Action.OBLITERATE, count_jobs(queue)) == (jobs is None)
    assert not ApprovalRule().needs(Action.OBLITERATE, None)
