"""Acting on RQ's queues: the real RQ made the jobs, and its real worker takes them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job as RealJob
from rq.suspension import is_suspended

from dashboard.backends.acting import MAX_KEPT_BYTES, Acted, Action, Kept, Outcome, Pick, Wishes
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueRef, State, Worker, WorkerState
from dashboard.settings import SourceSettings
from dashboard.sources import Source, metered
from tests.contract.rq_library import connected, counts, drain, fill_queue, start_one
from tests.contract.test_act_bullmq import READ_BY_TYPE, kept, outcomes
from tests.workloads import rq_jobs

REF = QueueRef(source="main", backend="rq", name="alpha", key="rq:queue:alpha")


@pytest.fixture
def backend(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[RQ]:
    source = Source("main", any_server.url)
    yield RQ(source, SourceSettings(name="main", url=any_server.url))
    source.close()


@pytest.fixture
def queue(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Queue]:
    with connected(any_server.url) as client:
        yield Queue("alpha", connection=client)


def keyspace(client: redis.Redis) -> dict[bytes, Any]:
    read = {**READ_BY_TYPE, b"stream": lambda client, key: client.xrange(key)}
    return {key: read[client.type(key)](client, key) for key in client.scan_iter()}


def bury(queue: Queue, count: int) -> list[str]:
    ids = [queue.enqueue(rq_jobs.fail, f"number {n}").id for n in range(count)]
    drain(queue)
    return ids


def picks(backend: RQ, state: State) -> list[Pick]:
    return backend.picks(REF, JobQuery(state=state, per_page=1000))


def test_dead_jobs_are_retried_and_run_by_the_real_worker(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    ids = bury(queue, 5)
    data = any_redis.hget(f"rq:job:{ids[0]}", "data")
    any_redis.expire(f"rq:job:{ids[0]}", 5)  # a short failure_ttl must not take a job that waits
    found = picks(backend, State.DEAD)
    assert {pick.id for pick in found} == set(ids)
    rows = backend.jobs(REF, JobQuery(state=State.DEAD)).jobs
    assert {(pick.id, pick.stamp) for pick in found} == {(job.id, job.stamp) for job in rows}
    with metered() as meter:
        asked = [*found, Pick(id="nobody"), Pick(id=ids[0], stamp="2020-01-01T00:00:00.000000Z")]
        acted = backend.act(REF, Action.RETRY, State.DEAD, asked)
    assert meter.round_trips == 1
    assert outcomes(acted) == [*["done"] * 5, "gone", "changed"]
    assert any_redis.ttl(f"rq:job:{ids[0]}") == -1
    assert any_redis.hget(f"rq:job:{ids[0]}", "data") == data
    assert set(queue.job_ids) == set(ids)
    drain(queue)
    assert counts(queue)["failed"] == 5
    assert all(len(RealJob.fetch(job_id, connection=queue.connection).results()) == 2 for job_id in ids)
    # They failed again meanwhile: what was seen before is no longer meant.
    assert outcomes(backend.act(REF, Action.RETRY, State.DEAD, found)) == ["changed"] * 5


def test_what_is_deleted_comes_back_as_it_was(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    filled = fill_queue(queue)
    own = counts(queue)
    for state in (*(State.DEAD, State.COMPLETED, State.CANCELED), *(State.SCHEDULED, State.BLOCKED, State.WAITING)):
        before = keyspace(any_redis)
        found = picks(backend, state)
        assert {pick.id for pick in found} == set(filled[state])
        taken = kept(backend.take(REF, state, found))
        assert outcomes(backend.delete(REF, state, taken)) == ["done"] * len(found)
        for pick in found:
            assert not any_redis.exists(f"rq:job:{pick.id}", f"rq:results:{pick.id}")
        assert outcomes(backend.delete(REF, state, taken)) == ["gone"] * len(found)
        assert outcomes(backend.restore(REF, state, list(reversed(taken)))) == ["done"] * len(found)
        assert keyspace(any_redis) == before
        assert outcomes(backend.restore(REF, state, taken)) == ["changed"] * len(found)
    assert counts(queue) == own
    for refused in backend.take(REF, State.ACTIVE, picks(backend, State.ACTIVE)):
        assert isinstance(refused, Acted)


@pytest.mark.parametrize("state", [State.SCHEDULED, State.BLOCKED])
def test_a_job_that_waits_runs_now_and_only_once(
    backend: RQ, queue: Queue, any_redis: redis.Redis, state: State
) -> None:
    parent = queue.enqueue(rq_jobs.add, 1)
    job = (
        queue.enqueue_in(timedelta(hours=1), rq_jobs.add, 2)
        if state is State.SCHEDULED
        else queue.enqueue(rq_jobs.add, 2, depends_on=parent)
    )
    assert outcomes(backend.act(REF, Action.PROMOTE, state, [Pick(id=job.id)])) == ["done"]
    assert outcomes(backend.act(REF, Action.PROMOTE, state, [Pick(id=job.id)])) == ["changed"]
    drain(queue)
    assert len(RealJob.fetch(job.id, connection=queue.connection).results()) == 1


def test_a_canceled_job_does_not_run_and_can_be_put_in_line_again(backend: RQ, queue: Queue) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    assert outcomes(backend.act(REF, Action.CANCEL, State.WAITING, [Pick(id=job.id)])) == ["done"]
    assert counts(queue) == {**dict.fromkeys(counts(queue), 0), "canceled": 1}
    assert RealJob.fetch(job.id, connection=queue.connection).is_canceled
    assert outcomes(backend.act(REF, Action.RETRY, State.CANCELED, [Pick(id=job.id)])) == ["done"]
    drain(queue)
    assert counts(queue)["finished"] == 1


def test_a_copy_is_a_job_of_its_own(backend: RQ, queue: Queue) -> None:
    (job_id,) = bury(queue, 1)
    (copy,) = backend.act(REF, Action.DUPLICATE, State.DEAD, [Pick(id=job_id)])
    assert copy.new_id not in (None, job_id)
    real = RealJob.fetch(str(copy.new_id), connection=queue.connection)
    assert (real.args, real.origin, real.get_status()) == (("number 0",), "alpha", "queued")
    drain(queue)
    assert counts(queue)["failed"] == 2
    assert len(RealJob.fetch(job_id, connection=queue.connection).results()) == 1


def test_a_waiting_job_is_moved(backend: RQ, queue: Queue) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    for target, why in ((None, "no queue was named"), ("alpha", "already"), ("a\nb", "no name")):
        (refused,) = backend.act(REF, Action.MOVE, State.WAITING, [Pick(id=job.id)], Wishes(target=target))
        assert refused.outcome is Outcome.REFUSED
        assert why in (refused.detail or "")
    acted = backend.act(REF, Action.MOVE, State.WAITING, [Pick(id=job.id)], Wishes(target="gamma"))
    assert outcomes(acted) == ["done"]
    gamma = Queue("gamma", connection=queue.connection)
    assert (queue.job_ids, gamma.job_ids) == ([], [job.id])
    drain(gamma)
    assert gamma.finished_job_registry.count == 1


def test_a_running_job_is_stopped_by_its_worker(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    worker = start_one(queue)
    (unheard,) = backend.act(REF, Action.STOP, State.ACTIVE, [Pick(id=job.id)])
    assert (unheard.outcome, unheard.detail) == (
        Outcome.REFUSED,
        "its worker does not listen: it is gone, or cut off",
    )
    with any_redis.pubsub() as channel:
        channel.subscribe(f"rq:pubsub:{worker.name}")
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        assert outcomes(backend.act(REF, Action.STOP, State.ACTIVE, [Pick(id=job.id)])) == ["done"]
        assert json.loads(channel.get_message(timeout=5)["data"]) == {"command": "stop-job", "job_id": job.id}
        asked = Worker(id=worker.name, source="main", backend="rq", state=WorkerState.BUSY)
        assert backend.act_on_worker(asked, Action.STOP_WORKER).outcome is Outcome.DONE
        assert json.loads(channel.get_message(timeout=5)["data"]) == {"command": "shutdown"}


def test_workers_pause_and_go_on(backend: RQ, queue: Queue) -> None:
    queue.enqueue(rq_jobs.add, 1)
    assert backend.act_on_queue(REF, Action.PAUSE).outcome is Outcome.DONE
    assert is_suspended(queue.connection)
    assert backend.stats([REF])[0].paused
    assert backend.act_on_queue(REF, Action.RESUME).outcome is Outcome.DONE
    assert not is_suspended(queue.connection)


def test_a_queue_is_removed_in_steps_and_not_while_jobs_run(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    fill_queue(queue)
    for n in range(1_500):
        queue.enqueue(rq_jobs.add, n)
    assert "running" in (backend.act_on_queue(REF, Action.OBLITERATE).detail or "")
    any_redis.delete("rq:wip:alpha")
    steps = 0
    while (acted := backend.act_on_queue(REF, Action.OBLITERATE)).more:
        steps += 1
    assert (acted.outcome, steps >= 1) == (Outcome.DONE, True)
    assert not any_redis.sismember("rq:queues", "rq:queue:alpha")
    left = {key for key in any_redis.scan_iter("rq:job:*") if any_redis.hget(key, "status") != b"started"}
    assert left == set()
    assert backend.act_on_queue(REF, Action.OBLITERATE).outcome is Outcome.GONE


def test_hostile_jobs_cost_an_outcome_each(backend: RQ, queue: Queue, any_redis: redis.Redis) -> None:
    (job_id,) = bury(queue, 1)
    odd = "odd\udcff:<script>"
    raw = odd.encode("utf-8", "surrogateescape")
    any_redis.zadd("rq:failed:alpha", {"ghost": 1, "text": 2, raw: 3})
    any_redis.set("rq:job:text", "no hash")
    any_redis.hset(b"rq:job:" + raw, mapping={"status": "failed", "data": b"\xff\x00"})
    asked = [Pick(id=each) for each in ("ghost", "text", odd, job_id)]
    taken = kept(backend.take(REF, State.DEAD, asked[:2]))
    assert outcomes(backend.act(REF, Action.RETRY, State.DEAD, asked)) == ["gone", "refused", "done", "done"]
    assert outcomes(backend.delete(REF, State.DEAD, taken)) == ["done", "done"]
    any_redis.hset(f"rq:job:{job_id}", mapping={"status": "queued", "data": b"x" * (MAX_KEPT_BYTES + 1)})
    (large,) = kept(backend.take(REF, State.WAITING, [Pick(id=job_id)]))
    assert large.blob is None
    assert outcomes(backend.delete(REF, State.WAITING, [large])) == ["done"]


def test_retries_and_deletes_that_race_a_live_worker_lose_and_double_nothing(
    backend: RQ, queue: Queue, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    ids = bury(queue, 120)
    found = picks(backend, State.DEAD)
    done: dict[str, int] = dict.fromkeys(ids, 0)
    deleted: set[str] = set()
    lock = threading.Lock()
    ended = threading.Event()

    def work() -> None:
        with connected(any_server.url) as client:
            while not ended.is_set():
                drain(Queue("alpha", connection=client))

    def retry() -> None:
        for start in range(0, len(found), 10):
            for each in backend.act(REF, Action.RETRY, State.DEAD, found[start : start + 10]):
                with lock:
                    done[each.id] += each.outcome is Outcome.DONE

    worker = threading.Thread(target=work)
    people = [threading.Thread(target=retry) for _ in range(2)]
    for thread in (worker, *people):
        thread.start()
    for start in range(0, len(found), 10):
        some = [pick for pick in found[start : start + 10] if hash(pick.id) % 3 == 0]
        taken = [each for each in backend.take(REF, State.DEAD, some) if isinstance(each, Kept)]
        acted = backend.delete(REF, State.DEAD, taken)
        deleted |= {each.id for each in acted if each.outcome is Outcome.DONE}
    for thread in people:
        thread.join()
    ended.set()
    worker.join()
    drain(queue)
    assert set(done.values()) <= {0, 1}
    left = {raw.decode() for raw in any_redis.zrange("rq:failed:alpha", 0, -1)}
    assert left == set(ids) - deleted
    for job_id in left:
        assert len(RealJob.fetch(job_id, connection=queue.connection).results()) == 1 + done[job_id]
    for job_id in deleted:
        assert not any_redis.exists(f"rq:job:{job_id}")
