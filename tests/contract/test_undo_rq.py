"""Deleting and restoring jobs of RQ, obliterating queues, and all actions at once beside a real worker."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from rq import Queue
from rq.group import Group
from rq.job import Job as RealJob
from rq.job import JobStatus
from rq.suspension import is_suspended

from dashboard.backends.actions import MAX_KEPT_BYTES, Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.rq.actions import deletion
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State, Worker, WorkerState
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.rq_actions import (
    REF,
    add_dead_jobs,
    backups_of,
    job_refs_of,
    outcomes,
    read_keyspace,
    running_rq_worker,
)
from tests.contract.rq_library import fill_queue, open_client, read_counts, run_waiting_jobs, start_next_job
from tests.waiting import wait_until
from tests.workloads import rq_jobs


@pytest.fixture
def backend(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[RQ]:
    source = Source("main", any_server.url)
    yield RQ(source, SourceSettings(name="main", url=any_server.url))
    source.close()


@pytest.fixture
def queue(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Queue]:
    with open_client(any_server.url) as client:
        yield Queue("alpha", connection=client)


def test_undo_restores_deleted_jobs_unchanged(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    filled = fill_queue(queue)
    own = read_counts(queue)
    for state in (*(State.DEAD, State.COMPLETED, State.CANCELED), *(State.SCHEDULED, State.BLOCKED, State.WAITING)):
        before = read_keyspace(any_redis)
        found = job_refs_of(backend, state)
        assert {job_ref.id for job_ref in found} == set(filled[state])
        with measure_cost() as meter:
            backups = backups_of(backend.backup_jobs(REF, state, found))
            assert read_keyspace(any_redis) == before
            deleted = backend.delete_jobs(REF, state, backups)
        assert meter.round_trips <= 3
        assert outcomes(deleted) == ["done"] * len(found)
        for job_ref in found:
            assert not list(any_redis.scan_iter(f"*{job_ref.id}*"))
        assert read_counts(queue)[backend.states[state][0]] == 0
        assert outcomes(backend.delete_jobs(REF, state, backups)) == ["gone"] * len(found)
        assert outcomes(backend.restore_jobs(REF, state, list(reversed(backups)))) == ["done"] * len(found)
        assert read_keyspace(any_redis) == before
        assert outcomes(backend.restore_jobs(REF, state, backups)) == ["changed"] * len(found)
        assert read_keyspace(any_redis) == before
    assert read_counts(queue) == own
    assert outcomes(backend.backup_jobs(REF, State.ACTIVE, job_refs_of(backend, State.ACTIVE))) == ["refused"]


def test_a_job_that_changed_since_its_backup_is_not_deleted(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    add_dead_jobs(queue, 4)
    found = job_refs_of(backend, State.DEAD)
    backups = backups_of(backend.backup_jobs(REF, State.DEAD, found))
    any_redis.hset(f"rq:job:{found[0].id}", "meta", "other")
    any_redis.zadd("rq:failed:alpha", {found[1].id: 4e9})
    queue.enqueue(rq_jobs.add, 1, depends_on=found[2].id)
    before = read_keyspace(any_redis)
    results = backend.delete_jobs(REF, State.DEAD, backups[:3])
    assert outcomes(results) == ["changed"] * 3
    assert read_keyspace(any_redis) == before
    backend.act_on_jobs(REF, Action.RETRY, State.DEAD, found)
    assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["changed"] * 4
    run_waiting_jobs(queue)
    assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["changed"] * 4
    assert outcomes(backend.backup_jobs(REF, State.DEAD, found)) == ["changed"] * 4
    assert outcomes(backend.restore_jobs(REF, State.DEAD, backups)) == ["changed"] * 4
    assert read_counts(queue)["failed"] == 4


def test_dependents_of_a_deleted_job_are_reported_and_wait_again_after_undo(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    parent = queue.enqueue(rq_jobs.add, 1)
    child = queue.enqueue(rq_jobs.add, 2, depends_on=parent)
    taken = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=parent.id)]))
    (result,) = backend.delete_jobs(REF, State.WAITING, taken)
    assert (result.outcome, "stay deferred: 1;" in (result.detail or "")) == (Outcome.DONE, True)
    assert read_counts(queue)["deferred"] == 1
    backend.restore_jobs(REF, State.WAITING, taken)
    run_waiting_jobs(queue)
    assert len(RealJob.fetch(child.id, connection=queue.connection).results()) == 1


def test_a_restored_deferred_job_whose_parent_has_ended_is_enqueued(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    parent = queue.enqueue(rq_jobs.add, 1)
    child = queue.enqueue(rq_jobs.add, 2, depends_on=parent)
    backups = backups_of(backend.backup_jobs(REF, State.BLOCKED, job_refs_of(backend, State.BLOCKED)))
    assert outcomes(backend.delete_jobs(REF, State.BLOCKED, backups)) == ["done"]
    run_waiting_jobs(queue)
    (result,) = backend.restore_jobs(REF, State.BLOCKED, backups)
    assert (result.outcome, "have finished; it is now enqueued" in (result.detail or "")) == (Outcome.DONE, True)
    assert (read_counts(queue)["deferred"], RealJob.fetch(child.id, connection=queue.connection).get_status()) == (
        *(0, JobStatus.QUEUED),
    )
    assert outcomes(backend.restore_jobs(REF, State.BLOCKED, backups)) == ["changed"]
    run_waiting_jobs(queue)
    assert len(RealJob.fetch(child.id, connection=queue.connection).results()) == 1


def test_a_deferred_job_restored_while_its_parent_ends_still_runs(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    parent = queue.enqueue(rq_jobs.add, 1)
    child = queue.enqueue(rq_jobs.add, 2, depends_on=parent)
    above = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=parent.id)]))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, above)) == ["done"]
    below = backups_of(backend.backup_jobs(REF, State.BLOCKED, [JobRef(id=child.id)]))
    assert outcomes(backend.delete_jobs(REF, State.BLOCKED, below)) == ["done"]
    # The parent knows it again, though it is not there.
    assert outcomes(backend.restore_jobs(REF, State.WAITING, above)) == ["done"]
    assert any_redis.smembers(parent.dependents_key) == {child.id.encode()}
    with any_redis.pipeline() as worker:
        # As RQ ends a job: it looks for those that wait for it, and takes none that is not there.
        worker.watch(parent.dependents_key)
        assert not any_redis.exists(child.key)
        assert outcomes(backend.restore_jobs(REF, State.BLOCKED, below)) == ["done"]
        worker.multi()
        worker.delete(parent.key, parent.dependents_key)
        with pytest.raises(redis.WatchError):
            worker.execute()
    run_waiting_jobs(queue)
    assert len(RealJob.fetch(child.id, connection=queue.connection).results()) == 1


def test_undo_restores_the_group_of_a_job(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    group = Group.create(queue.connection, name="g")
    group.enqueue_many(queue, [Queue.prepare_data(rq_jobs.add, (n,)) for n in range(2)])
    before = read_keyspace(any_redis)
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, job_refs_of(backend, State.WAITING)))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done", "done"]
    assert not any_redis.exists("rq:group:g")
    assert outcomes(backend.restore_jobs(REF, State.WAITING, backups)) == ["done", "done"]
    assert read_keyspace(any_redis) == before


def test_a_restored_job_that_expired_in_the_trash_keeps_its_remaining_time(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    queue.enqueue(rq_jobs.add, 1, result_ttl=300)
    run_waiting_jobs(queue)
    any_redis.zadd("rq:finished:alpha", {job_refs_of(backend, State.COMPLETED)[0].id: time.time() + 100})
    backups = backups_of(backend.backup_jobs(REF, State.COMPLETED, job_refs_of(backend, State.COMPLETED)))
    assert outcomes(backend.delete_jobs(REF, State.COMPLETED, backups)) == ["done"]
    blob = msgspec.msgpack.decode(backups[0].blob or b"")
    blob[0] = b"5"
    old = msgspec.structs.replace(backups[0], blob=msgspec.msgpack.encode(blob))
    assert outcomes(backend.restore_jobs(REF, State.COMPLETED, [old])) == ["done"]
    score = any_redis.zscore("rq:finished:alpha", backups[0].id) or 0
    assert 200 < score - time.time() <= 301
    assert read_counts(queue)["finished"] == 1


def test_undo_restores_the_positions_of_waiting_jobs_in_a_changed_queue(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    ids = [queue.enqueue(rq_jobs.add, n).id for n in range(240)]
    found = job_refs_of(backend, State.WAITING)
    batches: list[list[JobBackup]] = []
    for start in range(40, 200, 40):  # as bulk work deletes them, batch after batch
        batches.append(backups_of(backend.backup_jobs(REF, State.WAITING, found[start : start + 40])))
        assert outcomes(backend.delete_jobs(REF, State.WAITING, batches[-1])) == ["done"] * 40
    any_redis.lpop(queue.key, 20)
    late = queue.enqueue(rq_jobs.add, 1).id
    everything = [job for batch in batches for job in batch]
    random.Random(7).shuffle(everything)  # as the trash hands them out, page after page
    for start in range(0, len(everything), 50):
        assert outcomes(backend.restore_jobs(REF, State.WAITING, everything[start : start + 50])) == ["done"] * len(
            everything[start : start + 50]
        )
    assert queue.job_ids == [*ids[20:], late]


def test_undo_restores_a_job_at_the_front(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    ids = [queue.enqueue(rq_jobs.add, n).id for n in range(5)]
    first = queue.enqueue(rq_jobs.add, 1, at_front=True).id
    for gone in (0, 2):
        backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=first)]))
        assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"]
        any_redis.lpop(queue.key, gone) if gone else None
        assert outcomes(backend.restore_jobs(REF, State.WAITING, backups)) == ["done"]
        assert queue.job_ids == [first, *ids[gone:]]


def test_a_delete_in_a_queue_that_changed_since_the_backup_loses_no_job(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    ids = [queue.enqueue(rq_jobs.add, n).id for n in range(600)]
    found = job_refs_of(backend, State.WAITING)
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, found[300:400]))
    any_redis.lpop(queue.key, 240)  # workers picked them up
    any_redis.lpush(queue.key, *(f"front-{n}" for n in range(100)))
    with measure_cost() as meter:
        assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"] * 100
    assert meter.round_trips <= 3
    any_redis.lpop(queue.key, any_redis.llen(queue.key) - 200)
    assert queue.job_ids == ids[400:]
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, found[500:510]))
    any_redis.lpop(queue.key, 105)
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == [*["changed"] * 5, *["done"] * 5]


def test_a_job_deep_in_a_very_long_queue_is_restored_at_the_end_with_a_note(
    backend: RQ, queue: Queue, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [queue.enqueue(rq_jobs.add, n).id for n in range(60)]
    backups = backups_of(
        backend.backup_jobs(REF, State.WAITING, [JobRef(id=ids[50]), JobRef(id=ids[20]), JobRef(id=ids[59])])
    )
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"] * 3
    monkeypatch.setattr(deletion, "REACH", 30)
    results = backend.restore_jobs(REF, State.WAITING, backups)
    assert [each.detail is None for each in results] == [False, True, True]
    assert queue.job_ids == [*ids[:50], *ids[51:59], ids[50], ids[59]]


def test_large_and_broken_jobs_can_be_deleted(backend: RQ, queue: Queue, any_redis: Any) -> None:
    ids = add_dead_jobs(queue, 2)
    any_redis.hset(f"rq:job:{ids[0]}", "data", b"x" * (MAX_KEPT_BYTES + 1))
    any_redis.zadd("rq:failed:alpha", {"ghost": 4e9, "text": 4e9, "mad": 4e9, b"\xff": 4e9})
    any_redis.set("rq:job:text", "no hash")
    any_redis.hset("rq:job:mad", mapping={"status": "mad"})
    any_redis.hset(b"rq:job:\xff", mapping={"status": "failed"})
    found = {job_ref.id: job_ref for job_ref in job_refs_of(backend, State.DEAD)}
    before = read_keyspace(any_redis)
    large = any_redis.dump(f"rq:job:{ids[0]}")
    with measure_cost() as meter:
        backups = backups_of(backend.backup_jobs(REF, State.DEAD, list(found.values())))
    assert meter.round_trips == 1
    assert {job.id for job in backups if job.blob is None} == {ids[0]}
    assert next(job.size_bytes for job in backups if job.blob is None) > MAX_KEPT_BYTES
    assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["done"] * 6
    assert any_redis.zcard("rq:failed:alpha") == 0
    assert any_redis.get("rq:job:text") == b"no hash"
    back = {each.id: each.outcome for each in backend.restore_jobs(REF, State.DEAD, backups)}
    assert back == {**dict.fromkeys(found, Outcome.DONE), ids[0]: Outcome.REFUSED}
    any_redis.restore(f"rq:job:{ids[0]}", 31536000_000, large)
    any_redis.zadd("rq:failed:alpha", {ids[0]: 4e9})
    found_again = read_keyspace(any_redis)
    gone = {f"rq:results:{ids[0]}".encode(), b"rq:failed:alpha"}
    assert {key: value for key, value in found_again.items() if key not in gone} == {
        key: value for key, value in before.items() if key not in gone
    }
    junk = JobBackup(id="x", version=None, blob=b"\xc1junk", size_bytes=5)
    assert outcomes(backend.restore_jobs(REF, State.DEAD, [junk])) == ["refused"]
    assert outcomes(backend.delete_jobs(REF, State.DEAD, [junk])) == ["refused"]


def test_many_large_jobs_can_be_deleted_and_restored(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    ids = [queue.enqueue(rq_jobs.add, 1).id for _ in range(30)]
    for job_id in ids:
        any_redis.hset(f"rq:job:{job_id}", "data", random.Random(job_id).randbytes(200_000))
    before = read_keyspace(any_redis)
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, job_refs_of(backend, State.WAITING)))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"] * 30
    assert outcomes(backend.restore_jobs(REF, State.WAITING, backups)) == ["done"] * 30
    assert read_keyspace(any_redis) == before


def test_workers_pause_and_resume(backend: RQ, queue: Queue, any_server: EmbeddedRedis) -> None:
    assert backend.act_on_queue(REF, Action.PAUSE).outcome is Outcome.DONE
    assert is_suspended(queue.connection)
    queue.enqueue(rq_jobs.mark)
    assert backend.read_stats([REF])[0].paused
    with running_rq_worker(any_server.url, "simple", "alpha"):
        assert backend.act_on_queue(REF, Action.RESUME).outcome is Outcome.DONE
        wait_until(lambda: queue.connection.hlen("marks"), what="a run after the pause")
    assert not is_suspended(queue.connection)


def test_obliterate_runs_in_steps_and_is_refused_while_jobs_run(backend: RQ, queue: Queue, any_redis: Any) -> None:
    elsewhere = Queue("beta", connection=queue.connection).enqueue(rq_jobs.add, 1)
    untouched = read_keyspace(any_redis)
    fill_queue(queue)
    queue.enqueue(rq_jobs.add, 1, depends_on=elsewhere)
    for n in range(1_200):
        queue.enqueue(rq_jobs.add, n)
    any_redis.zadd("rq:failed:alpha", {elsewhere.id: 4e9, "ghost": 4e9})  # it moved on, and its entry stayed
    assert "running" in (backend.act_on_queue(REF, Action.OBLITERATE).detail or "")
    any_redis.zadd("rq:wip:alpha", dict.fromkeys(any_redis.zrange("rq:wip:alpha", 0, -1), 5))  # its worker is lost
    steps = 0
    while (result := backend.act_on_queue(REF, Action.OBLITERATE)).more:
        steps += 1
    assert (result.outcome, steps >= 1) == (Outcome.DONE, True)
    theirs = (b"rq:worker", b"rq:execution:", b"rq:clean")  # keys of workers and of their upkeep
    assert {key for key in read_keyspace(any_redis) if not key.startswith(theirs)} == set(untouched)
    assert backend.act_on_queue(REF, Action.OBLITERATE).outcome is Outcome.GONE
    any_redis.set("rq:failed:alpha", "mine")
    assert backend.act_on_queue(REF, Action.OBLITERATE).outcome is Outcome.REFUSED


def test_a_running_job_is_stopped_by_its_worker(
    backend: RQ, queue: Queue, any_server: EmbeddedRedis, tmp_path: Path
) -> None:
    lost = queue.enqueue(rq_jobs.add, 1)
    start_next_job(queue)
    (unheard,) = backend.act_on_jobs(REF, Action.STOP, State.ACTIVE, job_refs_of(backend, State.ACTIVE))
    assert (unheard.outcome, unheard.detail) == (
        Outcome.REFUSED,
        "its worker is not listening for commands; it may have stopped or lost its connection",
    )
    job = queue.enqueue(rq_jobs.linger, str(tmp_path / "began"))
    with running_rq_worker(any_server.url, "fork", "alpha"):
        wait_until((tmp_path / "began").exists, what="the run")
        seen = [job_ref for job_ref in job_refs_of(backend, State.ACTIVE) if job_ref.id == job.id]
        assert outcomes(backend.act_on_jobs(REF, Action.STOP, State.ACTIVE, seen)) == ["done"]
        wait_until(lambda: job.get_status() == "stopped", what="the stop")
        assert outcomes(backend.act_on_jobs(REF, Action.STOP, State.ACTIVE, seen)) == ["changed"]
    # Its state and its place are written in one transaction.
    assert [job_ref.id for job_ref in job_refs_of(backend, State.DEAD)] == [job.id]
    assert lost.get_status() == "started"


def test_a_worker_finishes_its_job_however_often_it_is_asked_to_stop(
    backend: RQ, queue: Queue, any_server: EmbeddedRedis, tmp_path: Path
) -> None:
    job = queue.enqueue(rq_jobs.linger_until, str(tmp_path / "began"), str(tmp_path / "until"))
    with running_rq_worker(any_server.url, "fork", "alpha") as name:
        asked = Worker(id=name, source="main", backend="rq", state=WorkerState.BUSY)
        wait_until((tmp_path / "began").exists, what="the run")
        assert backend.act_on_worker(asked, Action.STOP_WORKER).outcome is Outcome.DONE
        key = f"rq:worker:{name}"
        wait_until(lambda: queue.connection.hget(key, "shutdown_requested_date"), what="the order")
        again = backend.act_on_worker(asked, Action.STOP_WORKER)
        assert (again.outcome, "already" in (again.detail or "")) == (Outcome.REFUSED, True)
        (tmp_path / "until").touch()
        wait_until(lambda: not queue.connection.sismember("rq:workers", key), what="the end of the worker")
        assert job.get_status() == "finished"
        assert backend.act_on_worker(asked, Action.STOP_WORKER).outcome is Outcome.GONE
    assert backend.act_on_worker(asked, Action.QUIET).detail == backend.unsupported_reasons[Action.QUIET]


JOBS = 1_500


class RacingUsers:
    """What the users of the race did, by job; a job is in one list at a time."""

    def __init__(self, backend: RQ) -> None:
        self.backend = backend
        self.done: dict[str, Counter[str]] = {}
        self.lock = threading.Lock()
        self.over = threading.Event()

    def note_results(self, what: str, results: list[ActionResult]) -> None:
        with self.lock:
            for each in results:
                if each.outcome is Outcome.DONE:
                    self.done.setdefault(each.id, Counter())[what] += 1
                # RQ says that a job failed a moment before its worker lets go of it.
                assert each.outcome is not Outcome.REFUSED or "putting it away" in (each.detail or ""), each

    def has_each_kind(self) -> bool:
        """Whether the race was one: each kind of act won over the worker at least once."""
        with self.lock:
            seen = {what for done in self.done.values() for what in done}
        return {"retried", "moved", "canceled", "deleted dead", "deleted waiting"} <= seen

    def retry(self, random: random.Random) -> None:
        found = job_refs_of(self.backend, State.DEAD)
        some = [job_ref for job_ref in found if random.random() < 0.2]
        self.note_results("retried", self.backend.act_on_jobs(REF, Action.RETRY, State.DEAD, some))
        # As a process that died and another one that does the batch again.
        self.note_results("retried", self.backend.act_on_jobs(REF, Action.RETRY, State.DEAD, some[:50]))

    def move(self, random: random.Random) -> None:
        some = [job_ref for job_ref in job_refs_of(self.backend, State.WAITING)[:200] if random.random() < 0.1]
        self.note_results(
            "moved", self.backend.act_on_jobs(REF, Action.MOVE, State.WAITING, some, ActionOptions(target="beta"))
        )

    def cancel(self, random: random.Random) -> None:
        some = [job_ref for job_ref in job_refs_of(self.backend, State.WAITING)[:200] if random.random() < 0.1]
        self.note_results("canceled", self.backend.act_on_jobs(REF, Action.CANCEL, State.WAITING, some))
        again = [job_ref for job_ref in job_refs_of(self.backend, State.CANCELED) if random.random() < 0.5]
        self.note_results("retried", self.backend.act_on_jobs(REF, Action.RETRY, State.CANCELED, again))

    def delete(self, random: random.Random) -> None:
        for state, word, share in ((State.DEAD, "dead", 0.5), (State.WAITING, "waiting", 0.1)):
            some = [job_ref for job_ref in job_refs_of(self.backend, state)[:200] if random.random() < share]
            backups = [each for each in self.backend.backup_jobs(REF, state, some) if isinstance(each, JobBackup)]
            self.note_results(f"deleted {word}", self.backend.delete_jobs(REF, state, backups))
            back = [job for job in backups if random.random() < 0.7]
            self.note_results(f"restored {word}", self.backend.restore_jobs(REF, state, back))
            self.note_results(f"restored {word}", self.backend.restore_jobs(REF, state, back))

    def repeat(self, what: Callable[[random.Random], None], seed: int) -> None:
        dice = random.Random(seed)
        while not self.over.is_set():
            what(dice)
            time.sleep(0.01)  # people are slower than this, and the worker shares two cores with them


@pytest.mark.soak
def test_actions_beside_a_live_worker_neither_lose_nor_duplicate_jobs(
    redis_client: Any, server: EmbeddedRedis, source: Source, source_settings: SourceSettings, seed: int
) -> None:
    acts = RacingUsers(RQ(source, source_settings))
    failures: list[BaseException] = []

    def run_user(what: Callable[[random.Random], None], seed: int) -> None:
        try:
            acts.repeat(what, seed)
        except BaseException as exc:
            failures.append(exc)
            raise

    with open_client(server.url) as client, client.pipeline(transaction=False) as pipeline:
        queue = Queue("alpha", connection=client)
        data = [Queue.prepare_data(rq_jobs.mark, (2,)) for _ in range(JOBS)]
        ids = [job.id for job in queue.enqueue_many(data, pipeline=pipeline)]
        pipeline.execute()
        threads = [
            threading.Thread(target=run_user, args=(what, seed + number))
            for number, what in enumerate((acts.retry, acts.retry, acts.move, acts.cancel, acts.delete))
        ]
        with running_rq_worker(server.url, "simple", "alpha", "beta"):
            for thread in threads:
                thread.start()
            try:
                # Until the worker has come to the end of the line: what was deleted for good never runs.
                wait_until(
                    lambda: failures or (redis_client.llen(queue.key) < JOBS / 20 and acts.has_each_kind()),
                    what="the race",
                )
            finally:
                acts.over.set()
                for thread in threads:
                    thread.join()
            assert not failures

            def all_ended() -> bool:
                """Whether no job is in line, taken from it or run: an empty list does not tell of those taken."""
                if redis_client.exists("rq:queue:alpha", "rq:queue:beta"):
                    return False  # asked first, since asking for all of them takes much of the worker's time
                with redis_client.pipeline(transaction=False) as reads:
                    for job_id in ids:
                        reads.hget(f"rq:job:{job_id}", "status")
                    return {b"queued", b"started"}.isdisjoint(reads.execute())

            wait_until(all_ended, what="an end of all jobs")
    marks = {job_id.decode(): int(count) for job_id, count in redis_client.hgetall("marks").items()}
    places: dict[str, list[str]] = {}
    for name in ("alpha", "beta"):
        for native in ("failed", "finished", "canceled"):
            for member in redis_client.zrange(f"rq:{native}:{name}", 0, -1):
                places.setdefault(member.decode(), []).append(native)
    for job_id in ids:
        did = acts.done.get(job_id, Counter())
        lines = 1 + did["retried"] + did["restored waiting"] - did["deleted waiting"] - did["canceled"]
        assert marks.get(job_id, 0) == lines, (job_id, did)
        out = did["deleted waiting"] - did["restored waiting"] + did["deleted dead"] - did["restored dead"]
        assert out in (0, 1), (job_id, did)
        assert len(places.get(job_id, [])) == 1 - out, (job_id, did, places.get(job_id))
        assert bool(redis_client.exists(f"rq:job:{job_id}")) == (out == 0), (job_id, did)


def test_a_job_in_the_middle_of_a_very_long_queue_is_reported_as_not_found(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    middle = queue.enqueue(rq_jobs.add, 1).id
    (short,) = backend.backup_jobs(REF, State.WAITING, [JobRef(id=middle)])
    for push in (any_redis.rpush, any_redis.lpush):
        for start in range(0, 101_000, 1000):
            push("rq:queue:alpha", *(f"other-{n}" for n in range(start, start + 1000)))
    (far,) = backend.backup_jobs(REF, State.WAITING, [JobRef(id=middle)])
    assert isinstance(far, ActionResult)
    assert far.outcome is Outcome.CHANGED
    assert "not among the first or last 100,000 jobs" in (far.detail or "")
    (result,) = backend.delete_jobs(REF, State.WAITING, backups_of([short]))
    assert (result.outcome, result.detail) == (far.outcome, far.detail)
    any_redis.lrem("rq:queue:alpha", 0, middle)
    any_redis.ltrim("rq:queue:alpha", 0, 10)
    (lost,) = backend.backup_jobs(REF, State.WAITING, [JobRef(id=middle)])
    assert isinstance(lost, JobBackup)  # it stands in no list, and no worker lives that could be taking it
