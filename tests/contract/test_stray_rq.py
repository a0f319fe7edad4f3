"""Jobs of RQ that are in no list, ids without a job, and failed jobs that wait for a retry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
from rq import Queue, Repeat, Retry
from rq.job import Job as RealJob

from dashboard.backends.actions import Action, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import NotFound
from dashboard.model import Job, JobQuery, Searched, State
from dashboard.search.query import parse_query
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.rq_actions import REF, backups_of, job_refs_of, outcomes
from tests.contract.rq_library import Worker, fill_queue, open_client, run_waiting_jobs
from tests.workloads import rq_jobs

INTERMEDIATE = "rq:queue:alpha:intermediate"


@pytest.fixture
def backend(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[RQ]:
    source = Source("main", any_server.url)
    yield RQ(source, SourceSettings(name="main", url=any_server.url))
    source.close()


@pytest.fixture
def queue(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Queue]:
    with open_client(any_server.url) as client:
        yield Queue("alpha", connection=client)


def lose_job(queue: Queue, client: redis.Redis, where: str) -> tuple[RealJob, RealJob]:
    """A job that is lost, and one that waits."""
    jobs = queue.enqueue(rq_jobs.add, 1), queue.enqueue(rq_jobs.add, 2)
    assert client.lrem("rq:queue:alpha", 0, jobs[0].id) == 1
    if where == "intermediate":
        client.rpush(INTERMEDIATE, jobs[0].id)
    return jobs


def test_a_job_that_a_worker_is_starting_has_no_position(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    starting = queue.enqueue(rq_jobs.add, 1)
    any_redis.lrem(queue.key, 0, starting.id)
    any_redis.zadd(f"rq:wip:{queue.name}", {f"{starting.id}:{'0' * 32}": 4e9})  # its status follows
    job = backend.read_job(REF, starting.id)
    assert (job.state, job.abandoned, job.jobs_ahead) == (State.WAITING, False, None)
    assert "Position" not in dict(job.facts)


@pytest.mark.parametrize("where", ["nowhere", "intermediate"])
def test_a_job_lost_between_queue_and_worker_is_shown_and_restored(
    backend: RQ, queue: Queue, any_redis: redis.Redis, where: str
) -> None:
    lost, waits = lose_job(queue, any_redis, where)
    job = backend.read_job(REF, lost.id)
    assert (job.state, job.native_state, job.abandoned) == (State.WAITING, "queued", True)
    problems = {"nowhere": "any list: lost between queue and worker", "intermediate": "list: a worker picked it up"}
    assert problems[where] in (job.problem or "")
    assert "Position" not in dict(job.facts)
    assert Action.RETRY in backend.offered_actions(job.state, abandoned=job.abandoned)
    assert Action.RETRY not in backend.offered_actions(job.state)
    (stats,) = backend.read_stats([REF])
    notes = ("1 job picked up by a worker but not started yet",)
    assert (stats.depth, stats.notes) == (1, notes if where == "intermediate" else ())
    other = backend.read_job(REF, waits.id)
    assert (other.abandoned, other.problem, other.jobs_ahead) == (False, None, 0)
    assert dict(other.facts)["Position"] == "next"
    job_ref = [JobRef(id=lost.id, version=job.version)]
    assert outcomes(
        backend.act_on_jobs(REF, Action.RETRY, State.WAITING, [JobRef(id=waits.id), JobRef(id="none")])
    ) == [
        "changed",
        "gone",
    ]
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)) == ["done"]
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)) == ["changed"]
    assert (queue.job_ids, any_redis.exists(INTERMEDIATE)) == ([lost.id, waits.id], 0)
    run_waiting_jobs(queue)
    assert [len(RealJob.fetch(one.id, connection=queue.connection).results()) for one in (lost, waits)] == [1, 1]


@pytest.mark.parametrize("where", ["nowhere", "intermediate"])
def test_undo_restores_a_deleted_lost_job_unchanged(
    backend: RQ, queue: Queue, any_redis: redis.Redis, where: str
) -> None:
    lost, waits = lose_job(queue, any_redis, where)
    before = any_redis.hgetall(f"rq:job:{lost.id}")
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=lost.id)]))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"]
    assert (any_redis.exists(f"rq:job:{lost.id}", INTERMEDIATE), queue.job_ids) == (0, [waits.id])
    assert outcomes(backend.restore_jobs(REF, State.WAITING, backups)) == ["done"]
    assert (any_redis.hgetall(f"rq:job:{lost.id}"), queue.job_ids) == (before, [waits.id])
    assert backend.read_job(REF, lost.id).abandoned


@pytest.mark.parametrize("where", ["nowhere", "intermediate"])
def test_a_lost_job_is_not_changed_while_a_worker_may_be_picking_it_up(
    backend: RQ, queue: Queue, any_redis: redis.Redis, where: str
) -> None:
    lost, _ = lose_job(queue, any_redis, where)
    worker = Worker([queue], connection=queue.connection)
    worker.register_birth()
    job_ref = [JobRef(id=lost.id)]
    for _ in range(2):
        (refused,) = backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)
        assert refused.outcome is Outcome.REFUSED
        assert refused.detail == "a worker may be picking it up right now; try again in a minute"
        (kept_back,) = backend.backup_jobs(REF, State.WAITING, job_ref)
        assert isinstance(kept_back, ActionResult)
        assert (kept_back.outcome, kept_back.detail) == (Outcome.CHANGED, refused.detail)
    ((note, at),) = any_redis.zrange("{queuedeck}:missing", 0, -1, withscores=True)
    # An old note is outdated; the next read writes a new one.
    any_redis.zadd("{queuedeck}:missing", {note: at - 4000})
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)) == ["refused"]
    any_redis.zadd("{queuedeck}:missing", {note: at - 70})
    assert len(backups_of(backend.backup_jobs(REF, State.WAITING, job_ref))) == 1
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)) == ["done"]
    assert any_redis.exists("{queuedeck}:missing") == 0
    if where == "intermediate":
        # RQ's own maintenance notes it, too.
        any_redis.lrem("rq:queue:alpha", 0, lost.id)
        any_redis.rpush(INTERMEDIATE, lost.id)
        queue.intermediate_queue.set_first_seen(lost.id)
        assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)) == ["refused"]
        any_redis.set(f"{INTERMEDIATE}:first_seen:{lost.id}", "1.5")
        assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)) == ["done"]
        assert any_redis.exists(f"{INTERMEDIATE}:first_seen:{lost.id}") == 0


def test_a_lost_job_that_a_worker_has_started_is_not_changed(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    lost, _ = lose_job(queue, any_redis, "nowhere")
    job_ref = [JobRef(id=lost.id)]
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, job_ref))
    worker = Worker([queue], connection=queue.connection)
    worker.register_birth()
    worker.prepare_execution(lost)
    worker.prepare_job_execution(lost)
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.WAITING, job_ref)) == ["changed"]
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["changed"]
    assert lost.id not in queue.job_ids
    assert any_redis.exists(f"rq:job:{lost.id}")


@pytest.mark.parametrize("state", [State.ACTIVE, State.SCHEDULED, State.BLOCKED, State.DEAD, State.COMPLETED])
def test_a_job_of_any_status_in_no_list_can_be_deleted(
    backend: RQ, queue: Queue, any_redis: redis.Redis, state: State
) -> None:
    ids = fill_queue(queue)[state]
    infix = {State.ACTIVE: "wip", State.BLOCKED: "deferred", State.DEAD: "failed", State.COMPLETED: "finished"}
    assert not backend.read_job(REF, ids[0]).abandoned
    any_redis.delete("rq:workers:alpha", f"rq:{infix.get(state, 'scheduled')}:alpha")
    job = backend.read_job(REF, ids[0])
    assert (job.state, job.abandoned) == (state, True)
    assert "Not in any RQ list" in (job.problem or "")
    backups = backups_of(backend.backup_jobs(REF, state, [JobRef(id=job.id, version=job.version)]))
    assert outcomes(backend.delete_jobs(REF, state, backups)) == ["done"]
    with pytest.raises(NotFound):
        backend.read_job(REF, job.id)
    assert outcomes(backend.restore_jobs(REF, state, backups)) == ["done"]
    assert backend.read_job(REF, job.id).abandoned
    if Action.RETRY in backend.abandoned_actions.get(state, ()):
        assert outcomes(backend.act_on_jobs(REF, Action.RETRY, state, [JobRef(id=job.id)])) == ["done"]
        assert queue.job_ids[-1] == job.id


def test_ids_without_a_job_are_listed_and_can_be_deleted(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    again = dict.fromkeys((State.SCHEDULED, State.BLOCKED), Action.PROMOTE)
    again |= {State.WAITING: Action.CANCEL, State.COMPLETED: Action.DUPLICATE}
    again |= {State.DEAD: Action.RETRY, State.CANCELED: Action.RETRY}
    for state, ids in fill_queue(queue).items():
        any_redis.delete(*(f"rq:job:{job_id}" for job_id in ids))
        rows = backend.list_jobs(REF, JobQuery(state=state)).jobs
        assert {row.id for row in rows} == set(ids)
        assert all("only the id is left" in (row.problem or "") for row in rows)
        assert "only the id is left" in (backend.read_job(REF, ids[0]).problem or "")
        if state is State.ACTIVE:
            continue
        assert outcomes(backend.act_on_jobs(REF, again[state], state, [JobRef(id=ids[0])])) == ["gone"]
        one = backups_of(backend.backup_jobs(REF, state, [JobRef(id=ids[0])]))
        assert outcomes(backend.delete_jobs(REF, state, one)) == ["done"]
        rest = backups_of(backend.backup_jobs(REF, state, job_refs_of(backend, state)))
        assert len(rest) == len(ids) - 1
        assert set(outcomes(backend.delete_jobs(REF, state, rest))) <= {"done"}
        assert backend.list_jobs(REF, JobQuery(state=state)).total == 0


def add_retrying_jobs(queue: Queue) -> tuple[RealJob, RealJob]:
    """A job that failed and waits for its next try, and one that waits for its first."""
    job = queue.enqueue(rq_jobs.fail, retry=Retry(max=2, interval=600))
    run_waiting_jobs(queue)
    return job, queue.enqueue_in(timedelta(hours=1), rq_jobs.add, 1, retry=Retry(max=2, interval=600))


def test_a_failed_job_that_waits_for_a_retry_is_retrying(backend: RQ, queue: Queue) -> None:
    failed, fresh = add_retrying_jobs(queue)
    rows = {row.id: row for row in backend.list_jobs(REF, JobQuery(state=State.SCHEDULED)).jobs}
    assert (rows[failed.id].state, rows[failed.id].native_state) == (State.RETRYING, "scheduled")
    assert (rows[fresh.id].state, rows[fresh.id].attempts, rows[fresh.id].max_attempts) == (State.SCHEDULED, 0, 3)
    job = backend.read_job(REF, failed.id)
    assert (job.state, job.version, job.problem, job.abandoned) == (
        State.RETRYING,
        rows[failed.id].version,
        None,
        False,
    )
    assert dict(job.facts)["Attempts"] == "at least 1 failed; 1 retry left"
    (stats,) = backend.read_stats([REF])
    assert stats.counts.scheduled == 2
    assert stats.notes == ("1 of the scheduled jobs failed and is waiting for a retry",)
    assert backend.offered_actions(State.RETRYING) == backend.offered_actions(State.SCHEDULED)
    job_ref = JobRef(id=job.id, version=job.version)
    backups = backend.backup_jobs(REF, State.RETRYING, [job_ref])
    assert outcomes(backend.delete_jobs(REF, State.RETRYING, backups_of(backups))) == ["done"]
    assert outcomes(
        backend.restore_jobs(REF, State.RETRYING, [one for one in backups if isinstance(one, JobBackup)])
    ) == ["done"]
    assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, State.RETRYING, [job_ref])) == ["done"]
    assert queue.job_ids == [failed.id]


def test_a_repeating_job_is_scheduled_and_one_that_requests_a_retry_is_retrying(backend: RQ, queue: Queue) -> None:
    repeats = queue.enqueue(rq_jobs.add, 1, repeat=Repeat(times=2, interval=600), retry=Retry(max=2, interval=600))
    asks = queue.enqueue(rq_jobs.again, 2, 600)
    run_waiting_jobs(queue)
    rows = {row.id: row for row in backend.list_jobs(REF, JobQuery(state=State.SCHEDULED)).jobs}
    assert {repeats.id, asks.id} == set(rows)
    assert (rows[repeats.id].state, rows[asks.id].state) == (State.SCHEDULED, State.RETRYING)
    assert rows[asks.id].attempts == 1
    assert backend.read_stats([REF])[0].notes == ("1 of the scheduled jobs failed and is waiting for a retry",)


@pytest.mark.parametrize(
    ("text", "found"),
    [("state:retrying", "r"), ("state:scheduled", "rs"), ("-state:retrying", "s"), ("state:dead", "")],
)
def test_a_search_by_state_checks_each_job(text: str, found: str) -> None:
    common = {"source": "main", "backend": "rq", "queue": "alpha", "native_state": "scheduled"}
    rows = [
        Searched(job=Job(id="r", state=State.RETRYING, **common), text=""),
        Searched(job=Job(id="s", state=State.SCHEDULED, **common), text=""),
    ]
    assert "".join(row.job.id for row in rows if parse_query(text).matches_row(row, 0.0)) == found
