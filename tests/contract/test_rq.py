"""Features that only RQ has: retries, dependents, expiring registries, pickles, one switch for all workers."""

from __future__ import annotations

import json
import os
import pickle
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import rq
from msgspec.structs import replace
from rq import Queue, Retry
from rq.cron import CronScheduler
from rq.rate_limit import RateLimit
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from dashboard.backends.base import Budget
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.model import FlowDelta, Job, JobQuery, Quality, QueueFlow, QueueRef, QueueStats, State
from dashboard.schedules.lateness import late_s
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.rq_library import Worker, fill_queue, open_client, read_counts, run_waiting_jobs, start_next_job
from tests.contract.sample_series import classes_of
from tests.search import search
from tests.waiting import CEILING_S, wait_until
from tests.workloads import rq_jobs

# The user that SECURITY recommends for a dashboard that only reads: no scripts, nothing dangerous.
READER = (
    *(
        "on",
        ">secret",
        "resetkeys",
        "%R~*",
        "resetchannels",
        "-@all",
        "+@read",
        "-@dangerous",
        "+ping",
        "+hello",
        "+auth",
    ),
    *("+select", "+info", "+role", "+time", "+dbsize", "+client|setname", "+client|id", "+latency|latest"),
    "+memory|usage",
)


@pytest.fixture
def client(redis_client: redis.Redis, server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client for the library, on an empty Redis."""
    with open_client(server.url) as instance:
        yield instance


@pytest.fixture
def queue(client: redis.Redis) -> Queue:
    """An empty queue of RQ's."""
    return Queue("alpha", connection=client)


@pytest.fixture
def backend(source: Source, source_settings: SourceSettings) -> RQ:
    """The backend on the same Redis."""
    return RQ(source, source_settings)


def refs_of(backend: RQ) -> dict[str, QueueRef]:
    return {ref.name: ref for ref in search(backend)}


def stats_of(backend: RQ, name: str = "alpha") -> QueueStats:
    return backend.read_stats([refs_of(backend)[name]])[0]


def ids_of(backend: RQ, state: State, **query: int) -> list[str]:
    page = backend.list_jobs(refs_of(backend)["alpha"], JobQuery(state=state, **query))
    return [job.id for job in page.jobs]


def without_ttl(job: Job) -> tuple[Job, int]:
    """The job without its remaining time to live, and that time in seconds."""
    facts = dict(job.facts)
    left_s = int(facts.pop("Data expires in (s)", 0))
    return replace(job, facts=tuple(facts.items())), left_s


def flow_of(delta: FlowDelta, name: str = "alpha") -> QueueFlow:
    return next(flow for flow in delta.queues if flow.key == f"rq:queue:{name}")


def test_a_retry_with_an_interval_is_in_the_scheduled_list(queue: Queue, backend: RQ) -> None:
    job = queue.enqueue(rq_jobs.fail, retry=Retry(max=2, interval=600))
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert (shown.attempts, shown.max_attempts) == (0, 3)
    run_waiting_jobs(queue)
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert (shown.state, shown.native_state) == (State.RETRYING, "scheduled")
    assert (shown.attempts, shown.max_attempts) == (None, None)  # RQ forgets how many retries there were at first
    assert ("Retries left", "1") in shown.facts
    assert shown.scheduled_for is not None
    assert shown.error is None
    assert ids_of(backend, State.SCHEDULED) == [job.id]
    assert ("Retry intervals (s)", "[600]") in shown.facts


def test_the_oldest_job_counts_at_any_position(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    first = queue.enqueue(rq_jobs.add, 0)
    hashes = client.hgetall(f"rq:job:{first.id}")
    now = datetime.now(UTC)

    def add_job(name: str, at: datetime) -> str:
        client.hset(f"rq:job:{name}", mapping={**hashes, "enqueued_at": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"})
        return name

    steady = [add_job(f"steady{n}", now - timedelta(seconds=5000 - n)) for n in range(2000)]
    for ahead in (1, 2, 3, 7, 40, 700):
        client.delete("rq:queue:alpha")
        client.rpush("rq:queue:alpha", *steady)
        for n in range(ahead):
            client.lpush("rq:queue:alpha", add_job(f"first{n}", now - timedelta(seconds=60 - n / 100)))
        client.lset("rq:queue:alpha", 0, "gone")  # what stands in line may have no data any more
        assert stats_of(backend).latency_s == pytest.approx(5000, abs=60), ahead
    for odd in (b"9999-99-99T00:00:00Z", b"\xff", b"x" * 2000, b"1e999"):
        client.delete("rq:queue:alpha")
        client.rpush("rq:queue:alpha", add_job("odd", now), steady[0])
        client.hset("rq:job:odd", "enqueued_at", odd)
        assert stats_of(backend).latency_s == pytest.approx(5000, abs=60), odd
    client.ltrim("rq:queue:alpha", 0, 0)
    assert stats_of(backend).latency_s is None


def test_exhausted_retries_show_the_last_failure(queue: Queue, backend: RQ) -> None:
    job = queue.enqueue(rq_jobs.fail, "third", retry=Retry(max=2))
    run_waiting_jobs(queue)
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert (shown.state, dict(shown.facts)["Retries left"]) == (State.DEAD, "0")
    assert shown.error is not None
    assert (shown.error.class_name, shown.error.message) == ("ValueError", "third")


def test_a_job_that_asks_for_a_retry_shows_each_run(queue: Queue, backend: RQ) -> None:
    job = queue.enqueue(rq_jobs.again, 2)
    run_waiting_jobs(queue)
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    events = [event.event for event in shown.timeline]
    assert events.count("started") == 3
    assert events.count("attempt finished, retry requested") == 2
    assert events[-1] == "failed, retries exhausted"
    assert (shown.state, shown.attempts) == (State.DEAD, 3)


def test_results_of_rq_before_2_12_have_no_start_and_end_times(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    run_waiting_jobs(queue)
    key = f"rq:results:{job.id}"
    ((_, entry),) = client.xrange(key)
    client.delete(key)
    started = backend.read_job(refs_of(backend)["alpha"], job.id).started_at
    assert started is not None
    kept = {name: value for name, value in entry.items() if not name.startswith(b"execution_")}
    client.xadd(key, kept, id=f"{int(started.timestamp() * 1000)}-0")  # milliseconds cut off, as Redis does
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert [event.event for event in shown.timeline] == ["created", "enqueued", "started", "completed"]
    assert shown.result is not None
    assert shown.result.value == {"sum": 1}


def test_dependents_and_their_parents_are_linked(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    first, second = queue.enqueue(rq_jobs.add, 1), queue.enqueue(rq_jobs.add, 2)
    child = Queue("beta", connection=client).enqueue(rq_jobs.add, 3, depends_on=[first, second])
    refs = refs_of(backend)
    parent, blocked = backend.read_job(refs["alpha"], first.id), backend.read_job(refs["beta"], child.id)
    assert [(link.id, link.queue, link.state, link.ref) for link in parent.children] == [
        (child.id, "beta", State.BLOCKED, refs["beta"])
    ]
    assert parent.children_total == 1
    assert blocked.state is State.BLOCKED
    assert blocked.parent is not None
    assert (blocked.parent.id, blocked.parent.ref, blocked.parent.state) == (first.id, refs["alpha"], State.WAITING)
    assert dict(blocked.facts)["Depends on"] == f"{first.id}, {second.id}"


def test_many_dependents_are_shown_as_a_count(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    client.sadd(f"rq:job:{job.id}:dependents", *(f"child-{number}" for number in range(3000)))
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert shown.children_total == 3000
    assert len(shown.children) == 50


def test_suspended_workers_pause_every_queue(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    queue.enqueue(rq_jobs.add, 1)
    assert (stats_of(backend).paused, stats_of(backend).notes) == (False, ())
    suspend(client)
    assert stats_of(backend).paused is True
    assert stats_of(backend).notes == ("all workers are suspended",)
    resume(client)
    assert stats_of(backend).paused is False


def test_only_live_workers_are_counted(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    comma = Queue("a,b", connection=client)
    comma.enqueue(rq_jobs.add, 1)
    queue.enqueue(rq_jobs.add, 1)
    workers = [Worker([queue], connection=client), Worker([queue, comma], connection=client)]
    killed = Worker([queue], connection=client)
    for worker in (*workers, killed):
        worker.register_birth()
    client.delete(killed.key)  # as when its time to live is over
    assert client.scard("rq:workers:alpha") == 3
    assert stats_of(backend).workers == 2
    assert stats_of(backend, "a,b").workers == 1
    assert stats_of(backend).library_version == rq.VERSION
    assert backend.library_versions(list(refs_of(backend).values())) == (rq.VERSION,)


def test_a_worker_of_two_queues_shows_its_job_and_start_time(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    other = Queue("beta: ☃", connection=client)
    job = other.enqueue(rq_jobs.add, 1)
    queue.enqueue(rq_jobs.add, 2)
    worker = Worker([other, queue], connection=client)
    worker.register_birth()
    worker.prepare_execution(job)
    worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
    refs = list(refs_of(backend).values())
    (found,) = backend.list_workers(refs)
    (work,) = found.work
    assert (work.job_id, work.job_name, work.queue) == (job.id, "tests.workloads.rq_jobs.add", other.name)
    assert work.ref is not None
    assert work.ref.name == other.name
    assert work.started_at == job.started_at
    assert (found.processed, found.failed) == (worker.successful_job_count, worker.failed_job_count) == (0, 0)
    client.delete(f"rq:job:{job.id}")  # what is left of a job without its data is its id
    (work,) = backend.list_workers(refs)[0].work
    assert (work.job_id, work.job_name, work.queue, work.started_at) == (job.id, None, None, None)


def test_a_running_job_that_lost_its_worker_is_noted(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.fail)
    start_next_job(queue)
    assert stats_of(backend).notes == ()
    for member in client.zrange("rq:wip:alpha", 0, -1):
        client.zadd("rq:wip:alpha", {member: time.time() - 60})
    assert stats_of(backend).notes == ("1 running job lost its worker",)
    assert "Worker lost" in dict(backend.read_job(refs_of(backend)["alpha"], job.id).facts)
    queue.started_job_registry.cleanup()  # what RQ's own maintenance does
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert shown.state is State.DEAD
    assert shown.error is not None
    assert shown.error.class_name == "AbandonedJobError"


def test_running_jobs_of_rq_1_have_no_execution(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    start_next_job(queue)
    client.delete("rq:wip:alpha")
    client.zadd("rq:wip:alpha", {job.id: time.time() + 60})
    assert ids_of(backend, State.ACTIVE) == [job.id]
    assert backend.read_job(refs_of(backend)["alpha"], job.id).state is State.ACTIVE


def test_expired_jobs_are_neither_counted_nor_listed(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    """As many failed jobs as can be in each way: alive, expired, and kept for ever."""
    alive = [queue.enqueue(rq_jobs.fail) for _ in range(5)]
    ever = [queue.enqueue(rq_jobs.fail, failure_ttl=-1) for _ in range(5)]
    expired = [queue.enqueue(rq_jobs.fail) for _ in range(4)]
    done = [queue.enqueue(rq_jobs.add, number, result_ttl=-1 if number % 2 else 500) for number in range(4)]
    run_waiting_jobs(queue)
    for job in expired:
        client.zadd("rq:failed:alpha", {job.id: time.time() - 5})
    client.zadd("rq:finished:alpha", {"long-gone": time.time() - 5})
    stats = stats_of(backend)
    listed = [ids_of(backend, State.DEAD, page=page, per_page=3) for page in range(1, 6)]
    assert [len(page) for page in listed] == [3, 3, 3, 1, 0]
    assert {job_id for page in listed for job_id in page} == {job.id for job in (*alive, *ever)}
    assert set(listed[0]) < {job.id for job in alive}
    assert sorted(ids_of(backend, State.COMPLETED)) == sorted(job.id for job in done)
    own = read_counts(queue)  # removes what has expired
    assert (stats.counts.dead, stats.counts.completed) == (own["failed"], own["finished"]) == (10, 4)
    assert [ids_of(backend, State.DEAD, page=page, per_page=3) for page in range(1, 6)] == listed


def test_a_stopped_job_is_dead(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    job = queue.enqueue(rq_jobs.fail)
    run_waiting_jobs(queue)
    client.hset(job.key, "status", "stopped")
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert (shown.state, shown.native_state) == (State.DEAD, "stopped")


def test_a_rate_limited_job_is_blocked(queue: Queue, backend: RQ) -> None:
    limit = RateLimit("mail", 1)
    queue.enqueue(rq_jobs.add, 1, rate_limit=limit)
    held = queue.enqueue(rq_jobs.add, 2, rate_limit=limit)
    shown = backend.read_job(refs_of(backend)["alpha"], held.id)
    assert (shown.state, shown.native_state) == (State.BLOCKED, "rate_limited")
    assert ("Rate limit", "mail") in shown.facts


def test_jobs_of_the_json_serializer_are_shown(client: redis.Redis, backend: RQ) -> None:
    queue = Queue("alpha", connection=client, serializer=JSONSerializer)
    job = queue.enqueue("app.mail", {"to": "a@b.c", "token": "hush"}, retries=3, meta={"progress": 40})
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert shown.payload is not None
    assert shown.payload.value == {
        "function": "app.mail",
        "args": [{"to": "a@b.c", "token": "••••••"}],
        "kwargs": {"retries": 3},
    }
    assert shown.progress == 40


def test_methods_and_secrets_in_pickled_jobs(queue: Queue, backend: RQ) -> None:
    queue.enqueue(rq_jobs.Counter(5).step, 2)
    queue.enqueue(rq_jobs.add, 1, password="hunter2")
    ref = refs_of(backend)["alpha"]
    method, secret = (backend.read_job(ref, job_id) for job_id in ids_of(backend, State.WAITING))
    assert method.payload is not None
    assert method.payload.value == {
        "function": "step",
        "instance": {"tests.workloads.rq_jobs.Counter()": {"start": 5}},
        "args": [2],
        "kwargs": {},
    }
    assert secret.payload is not None
    assert secret.name == "tests.workloads.rq_jobs.add"
    assert "hunter2" not in repr(secret)
    assert "password='••••••'" in (secret.summary or "")


def test_a_pickle_is_never_run(queue: Queue, backend: RQ, client: redis.Redis, tmp_path: Path) -> None:
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {trap}",)

    job = queue.enqueue(rq_jobs.add, 1)
    bait = pickle.dumps(("f", None, (Trap(),), {"deep": [Trap()]}))
    client.hset(job.key, mapping={"data": zlib.compress(bait), "meta": bait, "result": bait, "exc_info": bait})
    client.xadd(f"rq:results:{job.id}", {"type": 1, "return_value": bait})
    ids_of(backend, State.WAITING)
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert shown.payload is not None
    assert "posix.system" in shown.payload.text
    assert "touch" in shown.payload.text
    assert not trap.exists()
    pickle.loads(bait)
    assert trap.exists()  # the trap works


def test_a_job_of_a_hundred_megabytes_is_not_fetched(
    queue: Queue, backend: RQ, client: redis.Redis, redis_client: redis.Redis
) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    client.setrange("big", 100_000_000 - 1, b"x")
    client.eval("redis.call('HSET', KEYS[1], 'data', redis.call('GET', KEYS[2]))", 2, job.key, "big")
    client.delete("big")
    before = redis_client.info("stats")["total_net_output_bytes"]
    ids_of(backend, State.WAITING)
    shown = backend.read_job(refs_of(backend)["alpha"], job.id)
    assert redis_client.info("stats")["total_net_output_bytes"] - before < 100_000
    assert shown.payload is not None
    assert (shown.payload.truncated, shown.payload.size_bytes) == (True, 100_000_000)
    assert shown.payload.text == "tests.workloads.rq_jobs.add(1)"


@pytest.mark.parametrize("job_id", [b"a/b", b"<script>alert(1)</script>", b"a b:c", b"\xff\xfe", b"x" * 10_000, b"%2f"])
def test_a_job_may_have_any_id(queue: Queue, backend: RQ, client: redis.Redis, job_id: bytes) -> None:
    job = queue.enqueue(rq_jobs.add, 1)
    client.rename(job.key, b"rq:job:" + job_id)
    client.lset("rq:queue:alpha", 0, job_id)
    ref = refs_of(backend)["alpha"]
    (row,) = backend.list_jobs(ref, JobQuery(state=State.WAITING)).jobs
    assert row.id.encode("utf-8", "surrogateescape") == job_id
    assert row.problem is None
    assert backend.read_job(ref, row.id).payload == backend.read_job(ref, row.id).payload
    assert stats_of(backend).latency_s is not None


@pytest.mark.parametrize("name", [b"\xff\xfe", "mail:übermäßig 🐇".encode(), b"a/b <script>", b""])
def test_a_queue_may_have_any_bytes_as_its_name(backend: RQ, client: redis.Redis, name: bytes) -> None:
    client.sadd("rq:queues", b"rq:queue:" + name)
    client.rpush(b"rq:queue:" + name, "1")
    client.hset("rq:job:1", mapping={"status": "queued", "description": "f()", "origin": name})
    (ref,) = refs_of(backend).values()
    assert ref.name.encode("utf-8", "surrogateescape") == name
    assert backend.read_stats([ref])[0].counts.waiting == 1
    assert backend.read_job(ref, "1").name == "f"
    delta, _ = backend.read_flow([ref], None)
    assert delta.queues[0].key == ref.key


def test_invalid_entries_of_the_directory_are_left_out(backend: RQ, client: redis.Redis) -> None:
    client.sadd("rq:queues", "rq:queue:good", "nonsense", b"\xff")
    assert set(refs_of(backend)) == {"good"}


def test_without_a_directory_the_queues_of_workers_are_found(backend: RQ, client: redis.Redis) -> None:
    for name in ("alpha", "beta", "gamma"):
        Queue(name, connection=client).enqueue(rq_jobs.add, 1)
    Worker([Queue(name, connection=client) for name in ("alpha", "beta")], connection=client).register_birth()
    client.delete("rq:queues")
    client.set("rq:queues", "x")
    step = backend.discover_queues(None, Budget(commands=10, seconds=5))
    assert {ref.name for ref in step.found} == {"alpha", "beta"}
    assert not step.complete
    assert step.problem is not None
    assert step.problem.startswith(
        "rq:queues is not a set, so only queues that were found earlier or that a worker serves"
    )


@pytest.mark.parametrize("kind", ["queue", "wip", "scheduled", "deferred", "failed", "finished", "canceled", "workers"])
def test_a_key_of_the_wrong_type_affects_only_its_queue(backend: RQ, client: redis.Redis, kind: str) -> None:
    for name in ("alpha", "beta"):
        fill_queue(Queue(name, connection=client))
    client.delete(f"rq:{kind}:alpha")
    client.set(f"rq:{kind}:alpha", b"\xff")
    refs = refs_of(backend)
    broken, sound = backend.read_stats([refs["alpha"], refs["beta"]])
    assert broken.error == f"rq:{kind}:alpha has the wrong type"
    assert sound.error is None
    known = [entry.count is not None for entry in broken.native]
    assert known.count(False) == (kind != "workers")
    delta, cursor = backend.read_flow(list(refs.values()), None)
    delta, _ = backend.read_flow(list(refs.values()), cursor)
    unknown = flow_of(delta).quality is Quality.UNKNOWN
    assert unknown == (kind in ("failed", "finished"))
    assert flow_of(delta, "beta").quality is Quality.ESTIMATED
    for entry in broken.native:
        if entry.count is None:
            with pytest.raises(BackendUnavailable, match="has the wrong type"):
                backend.list_jobs(refs["alpha"], JobQuery(state=entry.state))
        else:
            backend.list_jobs(refs["alpha"], JobQuery(state=entry.state))


def test_workers_of_the_wrong_type_leave_the_rest_readable(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    queue.enqueue(rq_jobs.add, 1)
    client.set("rq:workers", "x")
    stats = stats_of(backend)
    assert (stats.counts.waiting, stats.error, stats.workers) == (1, None, 0)
    assert stats.latency_s is not None


def test_other_prefixes_are_read_beside_the_default_one(
    source: Source, server: EmbeddedRedis, queue: Queue, client: redis.Redis
) -> None:
    queue.enqueue(rq_jobs.add, 1)
    client.sadd("app:jobs:queues", "app:jobs:queue:alpha")
    client.rpush("app:jobs:queue:alpha", "1", "2")
    client.hset("app:jobs:job:1", mapping={"status": "queued", "description": "f(1)", "origin": "alpha"})
    backend = RQ(source, SourceSettings(name="main", url=server.url, prefixes=("app:jobs",)))
    refs = refs_of(backend)
    assert set(refs) == {"alpha", "app:jobs:alpha"}
    stats = {row.name: (row.prefix, row.counts.waiting) for row in backend.read_stats(list(refs.values()))}
    assert stats == {"alpha": ("rq", 1), "app:jobs:alpha": ("app:jobs", 2)}
    assert backend.read_job(refs["app:jobs:alpha"], "1").name == "f"
    named = SourceSettings(
        name="main", url=server.url, prefixes=("app:jobs",), backends=("rq",), queues=("app:jobs:x",)
    )
    assert [ref.key for ref in refs_of(RQ(source, named)).values()] == ["app:jobs:queue:x"]


def test_completions_that_are_not_kept_are_counted_by_their_worker(
    queue: Queue, backend: RQ, client: redis.Redis
) -> None:
    refs = list(refs_of(backend).values()) or [QueueRef(source="main", backend="rq", name="alpha", key=queue.key)]
    worker = Worker([queue], connection=client)
    worker.register_birth()
    _, cursor = backend.read_flow(refs, None)
    for number in range(6):
        job = queue.enqueue(rq_jobs.add, number, result_ttl=0)
        Queue.dequeue_any([queue], None, client)
        worker.execute_job(job, queue)
    assert read_counts(queue)["finished"] == 0
    delta, cursor = backend.read_flow(refs, cursor)
    assert flow_of(delta).completed == 6
    delta, _ = backend.read_flow(refs, cursor)
    assert flow_of(delta).completed == 0


def test_flow_counts_jobs_with_their_own_time_to_live(queue: Queue, backend: RQ) -> None:
    queue.enqueue(rq_jobs.add, 0)
    ref = refs_of(backend)["alpha"]
    _, cursor = backend.read_flow([ref], None)
    for ttl in (60, 3600, 86_400, -1):
        queue.enqueue(rq_jobs.add, 1, result_ttl=ttl)
        queue.enqueue(rq_jobs.fail, failure_ttl=ttl)
    run_waiting_jobs(queue)
    delta, _ = backend.read_flow([ref], cursor)
    assert (flow_of(delta).completed, flow_of(delta).dead) == (5, 4)


def test_flow_is_unaffected_by_removing_old_failures(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    for _ in range(30):
        queue.enqueue(rq_jobs.fail)
    run_waiting_jobs(queue)
    hour_ago = time.time() - 3600 + 31_536_000
    client.zadd("rq:failed:alpha", dict.fromkeys(client.zrange("rq:failed:alpha", 0, -1), hour_ago))
    ref = refs_of(backend)["alpha"]
    delta, cursor = backend.read_flow([ref], None)
    assert flow_of(delta).dead == 0
    for job_id in queue.failed_job_registry.get_job_ids():
        queue.failed_job_registry.remove(job_id, delete_job=True)
    for _ in range(3):
        queue.enqueue(rq_jobs.fail)
    run_waiting_jobs(queue)
    delta, _ = backend.read_flow([ref], cursor)
    assert flow_of(delta).dead == 3


def test_a_user_without_scripts_reads_the_same(
    server: EmbeddedRedis, client: redis.Redis, redis_client: redis.Redis, backend: RQ
) -> None:
    queue = Queue("alpha", connection=client)
    ids = fill_queue(queue)
    client.hset(f"rq:job:{ids[State.WAITING][1]}", "description", b"x" * 2_000_000)
    client.delete(f"rq:job:{ids[State.WAITING][2]}")
    client.set(f"rq:job:{ids[State.WAITING][2]}", "wrong")
    client.delete(f"rq:job:{ids[State.DEAD][1]}")
    redis_client.acl_setuser("reader", enabled=False)
    redis_client.execute_command("ACL", "SETUSER", "reader", *READER)
    source = Source("main", f"redis://reader:secret@127.0.0.1:{server.port}/0")
    reader = RQ(source, SourceSettings(name="main", url=server.url))
    try:
        reader.read_stats([refs_of(reader)["alpha"]])  # learns that scripts are refused
        began = time.monotonic()
        with measure_cost() as meter:
            plain = stats_of(reader)
        assert meter.round_trips == 4  # one of them to find the queue
        full = stats_of(backend)
        assert plain.counts == full.counts
        assert plain.latency_s is not None
        assert full.latency_s is not None
        # A second for the clocks, of the server and of the two sources.
        assert abs(full.latency_s - plain.latency_s) <= time.monotonic() - began + 1
        ref = refs_of(reader)["alpha"]
        for state in reader.states:
            query = JobQuery(state=state)
            assert reader.list_jobs(ref, query) == backend.list_jobs(ref, query)
            for job_id in ids[state]:
                with measure_cost() as meter:
                    job = reader.read_job(ref, job_id)
                assert meter.round_trips <= 4
                (job, left_s), (same, less_s) = without_ttl(job), without_ttl(backend.read_job(ref, job_id))
                assert job == same
                assert 0 <= left_s - less_s <= time.monotonic() - began + 1
        other = Queue("beta", connection=client)
        other.enqueue(rq_jobs.fail)
        ref = refs_of(reader)["beta"]
        _, cursor = reader.read_flow([ref], None)
        run_waiting_jobs(other)
        delta, _ = reader.read_flow([ref], cursor)
        assert (flow_of(delta, "beta").dead, len(flow_of(delta, "beta").runtimes_s)) == (1, 1)
    finally:
        source.close()
        redis_client.acl_deluser("reader")


def test_run_times_of_many_busy_queues_are_sampled_in_turn(
    backend: RQ, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.backends.rq.flow.job_samples.SAMPLE_TOTAL", 2)
    queues = [Queue(name, connection=client) for name in ("alpha", "beta", "gamma", "delta")]
    for queue in queues:
        queue.enqueue(rq_jobs.add, 1)
    refs = list(refs_of(backend).values())
    _, cursor = backend.read_flow(refs, None)
    timed: set[str] = set()

    def all_timed() -> bool:
        nonlocal cursor
        for queue in queues:
            queue.enqueue(rq_jobs.add, 1)
            run_waiting_jobs(queue)
        delta, cursor = backend.read_flow(refs, cursor)
        found = [flow.key for flow in delta.queues if flow.runtimes_s]
        assert len(found) <= 2
        timed.update(found)
        return len(timed) == len(queues)

    wait_until(all_timed, what="run times of each queue")


def test_a_rare_job_among_many_queues_is_looked_at(backend: RQ, client: redis.Redis) -> None:
    queues = [Queue(f"q{number}", connection=client) for number in range(8)]
    for queue in queues:
        queue.enqueue(rq_jobs.add, 1)
    refs = list(refs_of(backend).values())
    cursor = None
    for _ in range(3):
        _, cursor = backend.read_flow(refs, cursor)
    run_waiting_jobs(queues[3])
    with measure_cost() as meter:
        delta, cursor = backend.read_flow(refs, cursor)
    assert meter.round_trips == 2
    assert classes_of(flow_of(delta, "q3")) == {f"{rq_jobs.__name__}.add": (1, 0)}
    assert len(flow_of(delta, "q3").runtimes_s) == 1
    described = (("y" * 5000, ""), ("send it", "send it"), (b"\xffsend(1)", "\\xffsend(1)"))
    for queue, (description, shown) in zip(queues[4:], described, strict=False):
        run_waiting_jobs(queue)
        client.hset(f"rq:job:{queue.finished_job_registry.get_job_ids()[0]}", "description", description)
        delta, cursor = backend.read_flow(refs, cursor)
        assert list(classes_of(flow_of(delta, queue.name)) or ()) == [shown]


def test_a_thousand_queues_cost_one_round_trip(backend: RQ, client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.sadd("rq:queues", f"rq:queue:q{number}")
            pipeline.rpush(f"rq:queue:q{number}", f"job-{number}")
            pipeline.zadd(f"rq:finished:q{number}", {f"done-{number}": time.time() + 499})
        pipeline.hset("rq:job:job-7", "enqueued_at", "2020-01-01T00:00:00.000000Z")
        pipeline.execute()
    refs = refs_of(backend)
    assert len(refs) == 1000
    with measure_cost() as meter:
        rows = backend.read_stats(list(refs.values()))
    assert meter.round_trips == 1
    assert {row.counts.waiting for row in rows} == {1}
    assert [row.name for row in rows if (row.latency_s or 0) > 1e6] == ["q7"]
    _, cursor = backend.read_flow(list(refs.values()), None)
    with measure_cost() as meter:
        delta, _ = backend.read_flow(list(refs.values()), cursor)
    assert meter.round_trips <= 2
    assert len(delta.queues) == 1000


def test_a_long_queue_costs_no_more_than_a_short_one(backend: RQ, client: redis.Redis, queue: Queue) -> None:
    client.sadd("rq:queues", "rq:queue:alpha")
    costs = []
    for length in (200, 200_000):
        client.delete("rq:queue:alpha")
        fill = "for i = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], string.format('job-%06d', i)) end"
        client.eval(fill, 1, "rq:queue:alpha", length)
        ref = refs_of(backend)["alpha"]
        last = length // 100
        client.config_resetstat()
        with measure_cost() as meter:
            page = backend.list_jobs(ref, JobQuery(state=State.WAITING, page=last, per_page=50))
        first = (last - 1) * 50 + 1
        assert (page.total, len(page.jobs), page.jobs[0].id) == (length, 50, f"job-{first:06d}")
        stats = client.info("all")
        calls = {name: each["calls"] for name, each in stats.items() if name.startswith("cmdstat_")}
        sent = stats["total_net_output_bytes"]
        costs.append((meter.round_trips, meter.commands, calls, sent))
    (short, long) = costs
    assert short[0] == long[0] == 2
    assert short[:3] == long[:3]
    assert long[3] < short[3] + 100  # bytes: only the length of the queue has more digits


def test_a_late_scheduled_job_is_reported(queue: Queue, backend: RQ) -> None:
    queue.enqueue_in(timedelta(hours=-1), rq_jobs.add, 1)
    assert stats_of(backend).overdue_s == pytest.approx(3_600, abs=90)


def test_arguments_of_a_cron_job_are_shown_as_they_are(queue: Queue, backend: RQ, client: redis.Redis) -> None:
    queue.enqueue(rq_jobs.add, 1)
    huge = 10**400
    job = {"func_name": "shop.report", "queue_name": queue.name, "cron": None, "next_enqueue_time": None}
    jobs = [
        # 2.12 writes arguments as a text of JSON, 2.6 as they are.
        {**job, "args": "[1]", "kwargs": '{"to": "\\u00fc"}', "interval": 3600},
        {**job, "args": [1], "kwargs": {"to": "ü"}, "interval": huge},
        {**job, "args": "(1,)", "kwargs": None, "interval": 60},
    ]
    client.zadd("rq:cron_schedulers", {"cron-1": 1})
    client.hset("rq:cron_scheduler:cron-1", "cron_jobs", json.dumps(jobs))
    found = backend.list_schedules(list(refs_of(backend).values()))
    assert [entry.payload.value for entry in found if entry.payload] == [
        {"args": [1], "kwargs": {"to": "ü"}},
        {"args": [1], "kwargs": {"to": "ü"}},
        {"args": "(1,)", "kwargs": None},
    ]
    assert [entry.pattern for entry in found] == ["every 3600 s", None, "every 60 s"]


def test_a_cron_scheduler_that_died_is_late_until_another_one_runs(
    queue: Queue, backend: RQ, client: redis.Redis
) -> None:
    queue.enqueue(rq_jobs.add, 1)
    refs = list(refs_of(backend).values())

    def lateness() -> dict[str, float | None]:
        return {entry.id: late_s(entry, time.time()) for entry in backend.list_schedules(refs)}

    died, other = (CronScheduler(connection=client, name=name) for name in ("died", "other"))
    died.register(rq_jobs.add, queue.name, args=(1, 2), interval=3600)
    died.register_birth()
    assert [entry.pattern for entry in backend.list_schedules(refs)] == ["every 3600 s"]
    client.delete(died.key)  # as when it expires
    assert lateness() == {}, "its last heartbeat was just now"
    client.zadd("rq:cron_schedulers", {"died": time.time() - 400, "older": time.time() - 90_000})
    (entry,) = backend.list_schedules(refs)
    assert entry.problem is not None
    assert entry.problem.startswith("its scheduler died: no heartbeat for ")
    assert 300 < (lateness()["died"] or 0) < 400 + CEILING_S
    other.register_birth()
    assert "died" not in lateness()
    other.register_death()
    client.zadd("rq:cron_schedulers", {"died": time.time() - 90_000})
    assert lateness() == {}


def test_shortened_arguments_are_marked_truncated(queue: Queue, backend: RQ) -> None:
    whole = queue.enqueue(rq_jobs.add, "x" * 100)
    long = queue.enqueue(rq_jobs.add, "x" * 50_000)
    key = queue.enqueue(rq_jobs.add, {"many": list(range(30_000))})
    deep: list[Any] = []
    for _ in range(90):
        deep = [deep]
    nested = queue.enqueue(rq_jobs.add, deep)
    opaque = queue.enqueue(rq_jobs.add, os.urandom(300_000), "y" * 500)
    ref = refs_of(backend)
    cut = {}
    for job in (whole, long, key, nested, opaque):
        payload = backend.read_job(ref["alpha"], job.id).payload
        assert payload is not None
        cut[job.id] = payload.truncated
        assert payload.note
    assert cut == {whole.id: False, long.id: True, key.id: True, nested.id: True, opaque.id: True}
