"""Actions on jobs of the real RQ, which its real worker runs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from rq import Queue, Retry
from rq.job import Job as RealJob
from rq.rate_limit import RateLimit, RateLimitRegistry
from rq.serializers import JSONSerializer

from dashboard.backends.actions import Action, ActionOptions, JobRef, Outcome
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable, Unsupported
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.rq_actions import BETA, REF, add_dead_jobs, backups_of, job_refs_of, outcomes
from tests.contract.rq_library import fill_queue, open_client, read_counts, run_waiting_jobs, start_next_job
from tests.search import search
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


def fetch_job(queue: Queue, job_id: str) -> RealJob:
    return RealJob.fetch(job_id, connection=queue.connection)


def count_runs(queue: Queue, job_id: str) -> int:
    return len(fetch_job(queue, job_id).results())


def test_dead_jobs_are_retried_and_run_by_the_real_worker(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    ids = add_dead_jobs(queue, 60)
    before = {job_id: any_redis.hmget(f"rq:job:{job_id}", "data", "meta") for job_id in ids}
    any_redis.expire(f"rq:job:{ids[0]}", 600)  # a short failure_ttl must not expire a waiting job
    found = job_refs_of(backend, State.DEAD)
    assert {job_ref.id for job_ref in found} == set(ids)
    with measure_cost() as meter:
        asked = [*found, JobRef(id="absent"), JobRef(id=ids[0], version="2020-01-01T00:00:00.000000Z")]
        results = backend.act_on_jobs(REF, Action.RETRY, State.DEAD, asked)
    assert meter.round_trips == 1
    assert outcomes(results) == [*["done"] * 60, "gone", "changed"]
    assert [job_ref.id for job_ref in found] == queue.job_ids
    for job_id in ids:
        assert any_redis.ttl(f"rq:job:{job_id}") == -1
        assert any_redis.hmget(f"rq:job:{job_id}", "data", "meta") == before[job_id]
    job = fetch_job(queue, ids[0])
    assert (job.get_status(), job.started_at, job.ended_at, job.origin) == ("queued", None, None, "alpha")
    run_waiting_jobs(queue)
    assert read_counts(queue)["failed"] == 60
    assert {count_runs(queue, job_id) for job_id in ids} == {2}
    # They have failed again since: the versions seen before are outdated.
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, found)) == ["changed"] * 60


def test_job_refs_equal_the_rows_of_the_pages(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    filled = fill_queue(queue)
    job_refs_of(backend, State.WAITING)  # the first call also reads the time, and the commands of Redis 6
    for state in filled:
        with measure_cost() as meter:
            found = job_refs_of(backend, state)
        assert meter.round_trips == 1
        rows = backend.list_jobs(REF, JobQuery(state=state, per_page=100)).jobs
        assert [(job_ref.id, job_ref.version) for job_ref in found] == [(job.id, job.version) for job in rows]
        assert all(job_ref.version for job_ref in found)
        detail = backend.read_job(REF, found[0].id)
        assert (detail.state, detail.version) == (state, found[0].version)
    with measure_cost() as meter:
        job_refs_of(backend, State.DEAD)
    assert meter.round_trips == 1
    assert any_redis.zcard("rq:failed:alpha") == 3


def test_job_refs_leave_out_expired_jobs_like_the_pages(backend: RQ, any_redis: redis.Redis) -> None:
    any_redis.sadd("rq:queues", "rq:queue:alpha")
    scores = {f"live-{n}": 4e9 + n for n in range(150)} | {f"over-{n}": 1 + n for n in range(80)}
    scores |= {f"ever-{n}": -1 for n in range(120)}
    any_redis.zadd("rq:failed:alpha", scores)
    for per_page in (1000, 30, 7):
        for page in range(1, 12):
            query = JobQuery(state=State.DEAD, page=page, per_page=per_page)
            assert [job_ref.id for job_ref in backend.list_job_refs(REF, query)] == [
                job.id for job in backend.list_jobs(REF, query).jobs
            ]


def test_a_retry_can_reset_the_attempts(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.again, 1)
    run_waiting_jobs(queue)
    assert any_redis.hget(f"rq:job:{job.id}", "number_of_retries") == b"1"
    backend.act_on_jobs(
        REF, Action.RETRY, State.DEAD, job_refs_of(backend, State.DEAD), ActionOptions(reset_attempts=True)
    )
    run_waiting_jobs(queue)
    assert count_runs(queue, job.id) == 4


def test_a_retried_stopped_job_keeps_its_time_to_live(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.fail, ttl=300)
    run_waiting_jobs(queue)
    any_redis.hset(f"rq:job:{job.id}", "status", "stopped")
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id=job.id)])) == ["done"]
    assert 0 < any_redis.ttl(f"rq:job:{job.id}") <= 300


@pytest.mark.parametrize("state", [State.SCHEDULED, State.BLOCKED])
def test_a_promoted_job_runs_once(backend: RQ, queue: Queue, state: State) -> None:
    parent = queue.enqueue(rq_jobs.add, 1)
    job = (
        queue.enqueue_in(timedelta(hours=1), rq_jobs.add, 2)
        if state is State.SCHEDULED
        else queue.enqueue(rq_jobs.add, 2, depends_on=parent)
    )
    seen = job_refs_of(backend, state)
    assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, state, seen)) == ["done"]
    assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, state, seen)) == ["changed"]
    run_waiting_jobs(queue)
    assert count_runs(queue, job.id) == 1


def test_a_promoted_retry_that_failed_again_has_another_version(backend: RQ, queue: Queue) -> None:
    job = queue.enqueue(rq_jobs.fail, retry=Retry(max=3, interval=600))
    run_waiting_jobs(queue)
    seen = job_refs_of(backend, State.SCHEDULED)
    assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, seen)) == ["done"]
    run_waiting_jobs(queue)
    assert read_counts(queue)["scheduled"] == 1
    assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, seen)) == ["changed"]
    assert count_runs(queue, job.id) == 0  # RQ keeps no result of attempts that are retried


def test_due_jobs_are_left_to_a_live_scheduler(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    queue.enqueue_in(timedelta(seconds=-5), rq_jobs.add, 2)
    any_redis.set("rq:scheduler-lock:alpha", "me", ex=60)
    for action in (Action.PROMOTE, Action.CANCEL):
        (result,) = backend.act_on_jobs(REF, action, State.SCHEDULED, job_refs_of(backend, State.SCHEDULED))
        assert (result.outcome, "due" in (result.detail or "")) == (Outcome.REFUSED, True)
    assert outcomes(backend.backup_jobs(REF, State.SCHEDULED, job_refs_of(backend, State.SCHEDULED))) == ["refused"]
    any_redis.delete("rq:scheduler-lock:alpha")
    assert outcomes(
        backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, job_refs_of(backend, State.SCHEDULED))
    ) == ["done"]


@pytest.mark.parametrize("state", [State.WAITING, State.SCHEDULED, State.BLOCKED])
def test_a_canceled_job_does_not_run_until_it_is_retried(
    backend: RQ, queue: Queue, any_redis: redis.Redis, state: State
) -> None:
    filled = fill_queue(queue)
    own = read_counts(queue)
    (job_id, *others) = filled[state]
    assert outcomes(backend.act_on_jobs(REF, Action.CANCEL, state, [JobRef(id=job_id)])) == ["done"]
    native = {State.WAITING: "queued", State.SCHEDULED: "scheduled", State.BLOCKED: "deferred"}[state]
    assert read_counts(queue) == {**own, native: own[native] - 1, "canceled": own["canceled"] + 1}
    assert fetch_job(queue, job_id).is_canceled
    run_waiting_jobs(queue)
    assert count_runs(queue, job_id) == 0
    assert outcomes(backend.act_on_jobs(REF, Action.CANCEL, state, [JobRef(id=job_id)])) == ["changed"]
    seen = [job_ref for job_ref in job_refs_of(backend, State.CANCELED) if job_ref.id == job_id]
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.CANCELED, seen)) == ["done"]
    run_waiting_jobs(queue)
    assert count_runs(queue, job_id) == 1
    assert others


def test_repeating_a_copy_makes_no_second_job(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.fail, "once", meta={"tag": "x"}, failure_ttl=77, retry=Retry(max=1))
    run_waiting_jobs(queue)
    (seen,) = job_refs_of(backend, State.DEAD)
    (copy,) = backend.act_on_jobs(REF, Action.DUPLICATE, State.DEAD, [seen])
    (again,) = backend.act_on_jobs(REF, Action.DUPLICATE, State.DEAD, [seen])  # as after a crash
    assert copy.new_id not in (None, job.id)
    assert (again.outcome, again.new_id, again.detail is None) == (Outcome.DONE, copy.new_id, False)
    assert queue.job_ids == [copy.new_id]
    copied_job = fetch_job(queue, str(copy.new_id))
    assert (copied_job.args, copied_job.origin, copied_job.get_status(), copied_job.failure_ttl) == (
        ("once",),
        "alpha",
        "queued",
        77,
    )
    assert (copied_job.meta, copied_job.started_at, copied_job.worker_name) == ({"tag": "x"}, None, None)
    assert any_redis.hget(f"rq:job:{copied_job.id}", "data") == any_redis.hget(f"rq:job:{job.id}", "data")
    run_waiting_jobs(queue)
    assert read_counts(queue)["failed"] == 2
    assert count_runs(queue, job.id) == 1
    (free,) = backend.act_on_jobs(REF, Action.DUPLICATE, State.DEAD, [JobRef(id=job.id)])
    assert free.new_id not in (None, copy.new_id)


def test_copies_of_jobs_in_every_state_run(backend: RQ, queue: Queue) -> None:
    filled = fill_queue(queue)
    for state, actions in backend.job_actions.items():
        if Action.DUPLICATE in actions and state in filled:
            results = backend.act_on_jobs(REF, Action.DUPLICATE, state, job_refs_of(backend, state))
            assert outcomes(results) == ["done"] * len(filled[state])
    run_waiting_jobs(queue)
    assert read_counts(queue)["queued"] == 0
    assert read_counts(queue)["failed"] == 6


def test_moved_jobs_keep_their_order(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    ids = [queue.enqueue(rq_jobs.add, n).id for n in range(130)]
    before = any_redis.hget(f"rq:job:{ids[0]}", "data")
    for target, reason in ((None, "no destination queue"), ("alpha", "already"), ("a\nb", "not a valid queue name")):
        (refused,) = backend.act_on_jobs(
            REF, Action.MOVE, State.WAITING, [JobRef(id=ids[0])], ActionOptions(target=target)
        )
        assert refused.outcome is Outcome.REFUSED
        assert reason in (refused.detail or "")
    seen = job_refs_of(backend, State.WAITING)
    moved = [job_ref for n, job_ref in enumerate(seen) if n % 2]
    results = backend.act_on_jobs(REF, Action.MOVE, State.WAITING, list(reversed(moved)), ActionOptions(target="beta"))
    assert outcomes(results) == ["done"] * 65
    assert [each.id for each in results] == [job_ref.id for job_ref in reversed(moved)]
    beta = Queue("beta", connection=queue.connection)
    assert (queue.job_ids, beta.job_ids) == (ids[::2], ids[1::2])
    assert any_redis.hget(f"rq:job:{ids[1]}", "origin") == b"beta"
    assert any_redis.hget(f"rq:job:{ids[0]}", "data") == before
    # Repeated after a crash, it moves nothing.
    again = backend.act_on_jobs(REF, Action.MOVE, State.WAITING, moved, ActionOptions(target="beta"))
    assert outcomes(again) == ["changed"] * 65
    run_waiting_jobs(queue, beta)
    assert (read_counts(queue)["finished"], read_counts(beta)["finished"]) == (65, 65)


def test_a_moved_dead_job_runs_in_the_other_queue(backend: RQ, queue: Queue) -> None:
    (job_id,) = add_dead_jobs(queue, 1)
    assert outcomes(
        backend.act_on_jobs(
            REF, Action.MOVE, State.DEAD, job_refs_of(backend, State.DEAD), ActionOptions(target="beta")
        )
    ) == ["done"]
    beta = Queue("beta", connection=queue.connection)
    run_waiting_jobs(beta)
    assert (read_counts(queue)["failed"], read_counts(beta)["failed"], count_runs(queue, job_id)) == (0, 1, 2)


def test_jobs_deep_in_a_long_queue_are_canceled(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    ids = [queue.enqueue(rq_jobs.add, n).id for n in range(60)]
    any_redis.lpush(queue.key, *(f"ahead-{n}" for n in range(9_000)))
    any_redis.rpush(queue.key, *(f"behind-{n}" for n in range(9_000)))
    with measure_cost() as meter:
        results = backend.act_on_jobs(
            REF, Action.CANCEL, State.WAITING, [JobRef(id=each) for each in (*ids, "ahead-5", "absent")]
        )
    assert meter.round_trips == 4  # three to find them: the ends, and 15,000 ids at a time
    assert outcomes(results) == [*["done"] * 60, "gone", "gone"]
    assert any_redis.llen(queue.key) == 18_000
    assert any_redis.zcard("rq:canceled:alpha") == 60


def test_a_canceled_or_deleted_job_releases_its_rate_limit_slot(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    limit = RateLimit(key="api", concurrency=1)
    first, second, third, fourth = (queue.enqueue(rq_jobs.fail, str(n), rate_limit=limit) for n in range(4))
    registry = RateLimitRegistry("api", queue.connection)
    assert (queue.job_ids, registry.get_rate_limited_job_count()) == ([first.id], 3)
    # RQ orders them by the second in which they were added.
    any_redis.zadd("rq:rl:api:rate_limited", {job.id: n for n, job in enumerate((second, third, fourth))})
    assert outcomes(backend.act_on_jobs(REF, Action.CANCEL, State.WAITING, [JobRef(id=first.id)])) == ["done"]
    assert queue.job_ids == [second.id]  # which is next
    (refused,) = backend.act_on_jobs(REF, Action.PROMOTE, State.BLOCKED, [JobRef(id=third.id)])
    assert (refused.outcome, "rate limit" in (refused.detail or "")) == (Outcome.REFUSED, True)
    assert outcomes(backend.act_on_jobs(REF, Action.CANCEL, State.BLOCKED, [JobRef(id=third.id)])) == ["done"]
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, job_refs_of(backend, State.WAITING)))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"]
    assert queue.job_ids == [fourth.id]
    assert outcomes(backend.restore_jobs(REF, State.WAITING, backups)) == ["done"]
    assert (queue.job_ids, registry.get_rate_limited_job_ids()) == ([fourth.id], [second.id])
    run_waiting_jobs(queue)
    assert read_counts(queue)["failed"] == 2
    # Retried together they wait for each other.
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs_of(backend, State.DEAD))) == [
        "done",
        "done",
    ]
    assert (queue.count, registry.get_rate_limited_job_count(), registry.get_allowed_job_count()) == (1, 1, 1)
    run_waiting_jobs(queue)
    assert {count_runs(queue, job.id) for job in (second, fourth)} == {2}
    assert registry.get_allowed_job_count() == 0


def test_a_canceled_job_that_still_runs_is_not_changed(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    start_next_job(queue)
    job.cancel()  # RQ allows this, and the job continues
    any_redis.hset(f"rq:job:{job.id}", "status", "canceled")
    any_redis.zadd("rq:wip:alpha", {f"{job.id}:{'0' * 32}": 4e9})
    any_redis.zadd(f"rq:executions:{job.id}", {"0" * 32: 4e9})
    (result,) = backend.act_on_jobs(REF, Action.RETRY, State.CANCELED, [JobRef(id=job.id)])
    assert (result.outcome, result.detail) == (Outcome.REFUSED, "a worker is still running it, or is just finishing it")
    assert outcomes(backend.backup_jobs(REF, State.CANCELED, [JobRef(id=job.id)])) == ["refused"]
    any_redis.delete("rq:wip:alpha")
    any_redis.zadd("rq:wip:alpha", {job.id: 4e9})  # the layout of RQ 1
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.CANCELED, [JobRef(id=job.id)])) == ["refused"]


@pytest.mark.parametrize("execution", ["0" * 32, None], ids=["RQ 2", "RQ 1"])
def test_a_job_that_a_worker_started_since_its_backup_is_not_deleted(
    backend: RQ, queue: Queue, any_redis: redis.Redis, execution: str | None
) -> None:
    (job_id,) = add_dead_jobs(queue, 1)
    backups = backups_of(backend.backup_jobs(REF, State.DEAD, [JobRef(id=job_id)]))
    member = job_id if execution is None else f"{job_id}:{execution}"
    any_redis.zadd("rq:wip:alpha", {member: 4e9})
    if execution is not None:
        any_redis.zadd(f"rq:executions:{job_id}", {execution: 4e9})
    (result,) = backend.delete_jobs(REF, State.DEAD, backups)
    assert (result.outcome, result.detail) == (Outcome.REFUSED, "a worker is still running it, or is just finishing it")
    assert any_redis.exists(f"rq:job:{job_id}")
    any_redis.delete("rq:wip:alpha")
    assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["done"]


def test_hostile_jobs_do_not_affect_the_outcome_of_others(backend: RQ, queue: Queue, any_redis: Any) -> None:
    (job_id,) = add_dead_jobs(queue, 1)
    odd = "odd\udcff:<script>"
    raw = odd.encode("utf-8", "surrogateescape")
    fields: dict[Any, Any] = {"status": "failed", "data": b"\xff\x00"}
    any_redis.zadd("rq:failed:alpha", {"ghost": 4e9, "text": 4e9, raw: 4e9, "long": 4e9, "mad": 4e9, "many": 4e9})
    any_redis.set("rq:job:text", "no hash")
    any_redis.hset(b"rq:job:" + raw, mapping=fields)
    any_redis.hset("rq:job:long", mapping={**fields, "origin": b"x" * 200_000})
    any_redis.hset("rq:job:mad", mapping={**fields, "status": "\udcff".encode("utf-8", "surrogateescape")})
    any_redis.hset("rq:job:many", mapping=fields)
    any_redis.sadd("rq:job::many:dependencies", *(f"parent-{n}" for n in range(1_001)))
    asked = [JobRef(id=each) for each in ("ghost", "text", odd, "long", "mad", "many", job_id)]
    results = backend.act_on_jobs(REF, Action.RETRY, State.DEAD, asked)
    assert outcomes(results) == ["gone", "refused", "done", "refused", "refused", "refused", "done"]
    assert [each.detail for each in results][3:6] == [
        "its field origin is too long to be a value of RQ's",
        "its status is not one of RQ's",
        "it depends on too many jobs",
    ]
    assert any_redis.get("rq:job:text") == b"no hash"
    copied = backend.act_on_jobs(REF, Action.DUPLICATE, State.DEAD, asked[:5])
    assert outcomes(copied) == ["gone", "refused", "changed", "refused", "refused"]


def test_keys_of_the_wrong_type_refuse_all_actions(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    ids = add_dead_jobs(queue, 2)
    seen = job_refs_of(backend, State.DEAD)
    any_redis.set("rq:queue:alpha", "mine")
    for action in (Action.RETRY, Action.DUPLICATE):
        results = backend.act_on_jobs(REF, action, State.DEAD, seen)
        assert outcomes(results) == ["refused", "refused"]
        assert "has the wrong type" in (results[0].detail or "")
    assert outcomes(backend.act_on_jobs(REF, Action.CANCEL, State.WAITING, seen)) == ["refused", "refused"]
    assert any_redis.zcard("rq:failed:alpha") == 2
    assert {fetch_job(queue, job_id).get_status() for job_id in ids} == {"failed"}
    assert len(set(any_redis.scan_iter("rq:job:*"))) == 2
    any_redis.delete("rq:failed:alpha")
    any_redis.set("rq:failed:alpha", "mine")
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, seen)) == ["refused", "refused"]
    assert outcomes(backend.backup_jobs(REF, State.DEAD, seen)) == ["refused", "refused"]
    with pytest.raises(BackendUnavailable, match="has the wrong type"):
        job_refs_of(backend, State.DEAD)


@pytest.mark.parametrize("withheld", ["-eval", "-hset", "-rpush", "-zrem"])
def test_a_retry_without_a_needed_permission_changes_nothing(
    backend: RQ, queue: Queue, any_server: EmbeddedRedis, any_redis: Any, withheld: str
) -> None:
    ids = add_dead_jobs(queue, 3)
    seen = job_refs_of(backend, State.DEAD)
    before = {key: any_redis.dump(key) for key in any_redis.scan_iter("rq:[jf]*")}
    any_redis.execute_command("ACL", "SETUSER", "clerk", "on", ">secret", "~*", "&*", "+@all", withheld)
    source = Source("main", any_server.url.replace("redis://", "redis://clerk:secret@"))
    try:
        clerk = RQ(source, SourceSettings(name="main", url=any_server.url))
        results = clerk.act_on_jobs(REF, Action.RETRY, State.DEAD, seen)
        assert outcomes(results) == ["refused"] * 3
        assert "is not permitted" in (results[0].detail or "")
        if withheld == "-eval":
            assert outcomes(clerk.backup_jobs(REF, State.DEAD, seen)) == ["refused"] * 3
    finally:
        source.close()
        any_redis.execute_command("ACL", "DELUSER", "clerk")
    assert {key: any_redis.dump(key) for key in any_redis.scan_iter("rq:[jf]*")} == before
    assert len(ids) == 3


def test_a_retry_on_a_full_server_is_refused_and_loses_no_job(
    backend: RQ, queue: Queue, any_redis: redis.Redis
) -> None:
    add_dead_jobs(queue, 2)
    seen = job_refs_of(backend, State.DEAD)
    any_redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(BackendUnavailable, match="is out of memory and refuses writes"):
            backend.act_on_jobs(REF, Action.RETRY, State.DEAD, seen)
    finally:
        any_redis.config_set("maxmemory", 0)
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, seen)) == ["done", "done"]


@pytest.mark.parametrize("action", [Action.PAUSE, Action.RESUME, Action.OBLITERATE])
def test_an_action_on_a_queue_of_a_replica_says_what_is_wrong_with_the_server(
    backend: RQ, queue: Queue, any_redis: redis.Redis, action: Action
) -> None:
    """Nothing is wrong with the queue."""
    add_dead_jobs(queue, 1)
    any_redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(BackendUnavailable) as refused:
            backend.act_on_queue(REF, action)
    finally:
        any_redis.execute_command("REPLICAOF", "NO", "ONE")
    assert refused.value.reason == "readonly"
    assert backend.act_on_queue(REF, action).outcome is Outcome.DONE


def test_harmful_pickles_are_moved_without_being_loaded(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, ("1/0",)

    (job_id,) = add_dead_jobs(queue, 1)
    harm = pickle.dumps(Harm())
    any_redis.hset(f"rq:job:{job_id}", mapping={"data": harm, "meta": harm})
    other = Queue("alpha", connection=queue.connection, serializer=JSONSerializer)
    other.enqueue(rq_jobs.add, 1, second=2)
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs_of(backend, State.DEAD))) == ["done"]
    assert any_redis.hmget(f"rq:job:{job_id}", "data", "meta") == [harm, harm]
    assert outcomes(
        backend.act_on_jobs(
            REF, Action.MOVE, State.WAITING, job_refs_of(backend, State.WAITING), ActionOptions(target="beta")
        )
    )
    assert len(job_refs_of(backend, State.WAITING, BETA)) == 2


def test_jobs_of_another_prefix_can_be_moved(queue: Queue, any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    (job_id,) = add_dead_jobs(queue, 1)
    for key in set(any_redis.scan_iter("rq:*")):
        any_redis.rename(key, b"app:" + key.removeprefix(b"rq:"))
    any_redis.delete("app:queues")
    any_redis.sadd("app:queues", "app:queue:alpha")
    source = Source("main", any_server.url)
    backend = RQ(source, SourceSettings(name="main", url=any_server.url, prefixes=("app",)))
    (ref,) = search(backend)
    assert ref.name == "app:alpha"
    results = backend.act_on_jobs(
        ref, Action.MOVE, State.DEAD, job_refs_of(backend, State.DEAD, ref), ActionOptions(target="app:beta")
    )
    assert outcomes(results) == ["done"]
    assert any_redis.lrange("app:queue:beta", 0, -1) == [job_id.encode()]
    source.close()


def test_actions_that_are_not_offered_have_a_reason(backend: RQ, queue: Queue) -> None:
    (job_id,) = add_dead_jobs(queue, 1)
    (result,) = backend.act_on_jobs(REF, Action.EDIT, State.DEAD, [JobRef(id=job_id)])
    assert (result.outcome, result.detail) == (Outcome.UNSUPPORTED, backend.unsupported_reasons[Action.EDIT])
    assert outcomes(backend.backup_jobs(REF, State.ACTIVE, [JobRef(id=job_id)])) == ["refused"]
    offered = {action for actions in backend.job_actions.values() for action in actions}
    offered |= {*backend.queue_actions, *backend.worker_actions}
    assert offered == set(backend.action_help)
    assert offered | set(backend.unsupported_reasons) == set(Action) - {Action.PURGE, Action.UNDO}
    assert not offered & set(backend.unsupported_reasons)
    with pytest.raises(Unsupported):
        backend.list_job_refs(REF, JobQuery(state=State.RETRYING))
