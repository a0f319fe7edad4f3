"""One action: its outcomes, its backups in the trash, and its audit event."""

from __future__ import annotations

import json
import logging

import pytest

from dashboard.actions.audit_log import MAX_IDS
from dashboard.actions.trash import BIN, KEEP_S, SIZES, Trash
from dashboard.backends.actions import Action, JobRef, Outcome
from dashboard.errors import Conflict, NotFound, Unsupported
from dashboard.model import QueueStats, State
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.actions.conftest import ACTOR, Bench
from tests.actions.fake_backend import bury


def job_refs_of(*ids: str) -> list[JobRef]:
    return [JobRef(id=job_id) for job_id in ids]


def test_a_retry_returns_the_outcomes_in_order(bench: Bench) -> None:
    bury(bench.client, "mail", 3)
    asked = [
        JobRef(id="job-1"),
        JobRef(id="absent"),
        JobRef(id="job-2", version="99"),
        JobRef(id="job-0", version="1"),
    ]
    result = bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.RETRY, asked, reason="fixed")
    assert [each.outcome.value for each in result.results] == ["done", "gone", "changed", "done"]
    assert bench.waiting() == ["job-0", "job-1"]
    assert result.undo_batch is None


def test_the_audit_event_names_user_and_action_and_holds_no_payload(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    ids = bury(bench.client, "mail", 150, body="secret-payload")
    with caplog.at_level(logging.INFO, "queuedeck.audit"):
        bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.RETRY, job_refs_of(*ids, "gone"), reason="x" * 900)
    (event,) = bench.actions.audit_log.list_page().events
    assert (event.who, event.role, event.address) == ("anna", "operator", "127.0.0.1")
    assert (event.action, event.source, event.backend, event.queue, event.state) == (
        *("retry", "main", "shelf", "mail", "dead"),
    )
    assert (event.count, event.outcomes) == (151, {"done": 150, "gone": 1})
    assert event.ids == tuple(ids[:MAX_IDS])
    assert event.reason is not None
    assert len(event.reason) == 500
    asked, done = (record.getMessage() for record in caplog.records)
    assert asked.startswith("asked {")
    assert json.loads(done.removeprefix("done "))["outcomes"] == {"done": 150, "gone": 1}
    assert "secret-payload" not in caplog.text + str(bench.client.xrange("{queuedeck}:audit"))


def test_an_action_that_is_not_offered_is_refused_with_the_reason(bench: Bench) -> None:
    bury(bench.client, "mail", 1)
    with pytest.raises(Unsupported, match="does not support promote for dead jobs"):
        bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.PROMOTE, job_refs_of("job-0"))
    queue = QueueStats(source="main", backend="shelf", name="mail", key="shelf:mail")
    with pytest.raises(Unsupported, match="Shelf never rests"):
        bench.actions.on_queue(ACTOR, queue, Action.PAUSE)
    assert bench.actions.audit_log.list_page().events == ()


def test_undo_restores_deleted_jobs_unchanged(bench: Bench) -> None:
    bury(bench.client, "mail", 5)
    before = {key: bench.client.dump(key) for key in bench.client.scan_iter("shelf:*")}
    result = bench.actions.on_jobs(
        ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-1", "job-3", "absent")
    )
    assert [each.outcome.value for each in result.results] == ["done", "done", "gone"]
    assert bench.dead() == ["job-0", "job-2", "job-4"]
    assert result.undo_batch is not None
    assert 86_000 < bench.client.ttl(f"{BIN}:{result.undo_batch}") <= KEEP_S
    back = bench.actions.restore_batch(ACTOR, result.undo_batch)
    assert back.count(Outcome.DONE) == 2
    assert bench.dead() == [f"job-{n}" for n in range(5)]
    assert bench.client.hgetall("shelf:mail:bodies")[b"job-3"] == b"body of job-3"
    assert before.keys() == set(bench.client.scan_iter("shelf:*"))
    with pytest.raises(NotFound):
        bench.actions.restore_batch(ACTOR, result.undo_batch)
    assert bench.client.exists(BIN, SIZES) == 0


def test_undo_does_not_restore_a_job_whose_id_is_in_use_again(bench: Bench) -> None:
    bury(bench.client, "mail", 2)
    result = bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-0", "job-1"))
    bury(bench.client, "mail", 1, body="another")  # the id is in use again
    assert result.undo_batch is not None
    back = bench.actions.restore_batch(ACTOR, result.undo_batch)
    assert sorted(each.outcome.value for each in back.results) == ["changed", "done"]
    assert bench.client.hget("shelf:mail:bodies", "job-0") == b"another of job-0"
    assert bench.actions.trash.describe_batch(result.undo_batch)[1] == 1  # a job that could not be restored stays


def test_jobs_too_many_for_the_trash_are_only_deleted_permanently(bench: Bench) -> None:
    bury(bench.client, "mail", 3, body="x" * 500_000)
    assert 1_000_000 < bench.actions.trash.room_bytes() <= 1024 * 1024
    with pytest.raises(Conflict, match="no room"):
        bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-0", "job-1", "job-2"))
    assert len(bench.dead()) == 3
    bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-0"))
    assert bench.actions.trash.room_bytes() < 600_000
    result = bench.actions.on_jobs(
        ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-1", "job-2"), for_good=True
    )
    assert result.undo_batch is None
    assert bench.dead() == []


def test_a_job_too_large_for_the_trash_is_not_deleted(bench: Bench) -> None:
    bury(bench.client, "mail", 1, body="x" * 1_100_000)
    bury(bench.client, "mail", 1, start=1)
    result = bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-0", "job-1"))
    assert [each.outcome.value for each in result.results] == ["refused", "done"]
    assert "Too large for the trash" in (result.results[0].detail or "")


def test_expired_batches_free_their_room_in_the_trash(bench: Bench, source: Source) -> None:
    bury(bench.client, "mail", 4, body="x" * 200_000)
    result = bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-0", "job-1"))
    full = bench.actions.trash.room_bytes()
    bench.client.zadd(BIN, {str(result.undo_batch): 1.0})  # a day later
    assert bench.actions.trash.room_bytes() > full + 400_000
    bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-2"))
    assert bench.client.hexists(SIZES, str(result.undo_batch)) is False
    small = Trash(Store(source), 0)
    assert small.room_bytes() == 0


def test_repeating_an_interrupted_delete_reports_done(bench: Bench) -> None:
    bury(bench.client, "mail", 1)
    step = bench.actions.run_batch
    args = (bench.backend, bench.ref(), State.DEAD, Action.DELETE, job_refs_of("job-0"))
    from dashboard.backends.base import NO_OPTIONS

    assert step(*args, NO_OPTIONS, "b1", "anna")[0].outcome is Outcome.DONE
    assert step(*args, NO_OPTIONS, "b1", "anna")[0].outcome is Outcome.DONE  # repeated by the next process
    assert bench.actions.restore_batch(ACTOR, "b1").count(Outcome.DONE) == 1


def test_a_queue_is_obliterated_in_steps(bench: Bench) -> None:
    bury(bench.client, "mail", 95)
    queue = QueueStats(source="main", backend="shelf", name="mail", key="shelf:mail")
    assert bench.actions.on_queue(ACTOR, queue, Action.OBLITERATE).outcome is Outcome.DONE
    assert bench.dead() == []
    assert [event.action for event in bench.actions.audit_log.list_page().events] == ["obliterate"]
