"""Many processes of Sidekiq, and unreadable records: unknown is not zero, and no call blocks Redis for long."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import redis

from dashboard.backends.sidekiq import processes
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import WrongType
from dashboard.model import JobQuery, QueueRef, QueueStats, State, WorkerState
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sidekiq_worker import payload
from tests.contract.sizes import address_of_user
from tests.contract.test_sidekiq import READER

SHARED = QueueRef(source="main", backend="sidekiq", name="*", key="*", shared=True)
WORK = QueueRef(source="main", backend="sidekiq", name="work", key="queue:work")
ACTIVE = JobQuery(state=State.ACTIVE)


@pytest.fixture(params=[True, False], ids=["scripts", "plain"])
def backend(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Sidekiq]:
    source = Source("main", address_of_user(server, redis_client, READER, scripts=request.param))
    yield Sidekiq(source, SourceSettings(name="main", url=server.url))
    source.close()


def fill(client: redis.Redis, count: int, threads: int) -> None:
    info = json.dumps({"hostname": "web", "pid": 1, "queues": ["work"], "concurrency": threads, "version": "7.3.9"})
    fields = {"info": info, "busy": threads, "beat": time.time(), "quiet": "false", "concurrency": threads}
    work = json.dumps({"queue": "work", "payload": payload("running"), "run_at": time.time()})
    with client.pipeline(transaction=False) as pipeline:
        pipeline.set("stat:processed", 1).sadd("queues", "work").lpush("queue:work", payload("waits"))
        for n in range(count):
            pipeline.sadd("processes", f"web:{n}:aa").hset(f"web:{n}:aa", mapping=fields)
            pipeline.hset(f"web:{n}:aa:work", mapping={f"t{thread}": work for thread in range(threads)})
        pipeline.execute()


def read_shared_and_queue(backend: Sidekiq) -> tuple[QueueStats, QueueStats]:
    shared, work = backend.read_stats([SHARED, WORK])
    return shared, work


def test_many_processes_are_counted_in_small_script_calls(backend: Sidekiq, redis_client: redis.Redis) -> None:
    fill(redis_client, 700, 3)
    backend.read_stats([SHARED])  # asks the server once what it knows
    redis_client.config_resetstat()
    shared, work = read_shared_and_queue(backend)
    assert (shared.workers, work.workers, work.counts.active, work.at_least) == (700, 700, 2100, ())
    assert shared.notes == ("700 processes, 2100 threads",)
    stats = redis_client.info("commandstats")
    calls = stats.get("cmdstat_eval_ro", {"calls": 0})["calls"]
    if calls:
        read = sum(stats[f"cmdstat_{name}"]["calls"] for name in ("hget", "hstrlen", "hlen", "hkeys"))
        assert read / calls <= 550, (read, calls)
    assert len(backend.list_workers([SHARED, WORK])) == 700
    assert backend.list_jobs(WORK, ACTIVE).total == 2100


def test_figures_are_lower_bounds_when_not_all_processes_are_read(
    backend: Sidekiq, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(redis_client, 2100, 1)
    monkeypatch.setattr(processes, "PORTIONS", 1)
    shared, work = read_shared_and_queue(backend)
    assert (shared.workers, work.workers) == (None, None)
    assert shared.notes[0].startswith("at least ")
    assert work.at_least == (State.ACTIVE,)
    assert work.counts.active is not None
    assert 0 < work.counts.active < 2100
    more = [worker for worker in backend.list_workers([SHARED, WORK]) if worker.id == "processes"]
    assert [worker.problem for worker in more] == ["there are more processes than could be read"]
    page = backend.list_jobs(WORK, ACTIVE)
    assert (page.at_least, page.problems) == (True, ("There are more processes than could be read.",))


def test_figures_of_unreadable_processes_are_unknown(backend: Sidekiq, redis_client: redis.Redis) -> None:
    fill(redis_client, 2, 1)
    assert [row.problem for row in backend.list_workers([SHARED, WORK])] == [None, None]
    redis_client.delete("web:0:aa:work")
    redis_client.set("web:0:aa:work", "x")
    shared, work = read_shared_and_queue(backend)
    assert (shared.workers, work.workers, work.counts.active, work.at_least) == (2, 2, 1, (State.ACTIVE,))
    assert [row.problem for row in backend.list_workers([SHARED, WORK])] == ["its running jobs cannot be read", None]
    redis_client.delete("web:0:aa")
    redis_client.set("web:0:aa", "x")
    shared, work = read_shared_and_queue(backend)
    assert (shared.workers, work.workers, work.counts.active, work.at_least) == (None, None, 1, (State.ACTIVE,))
    told = {row.id: (row.state, row.problem) for row in backend.list_workers([SHARED, WORK])}
    assert told["web:0:aa"] == (WorkerState.UNKNOWN, "its record has the wrong type")
    page = backend.list_jobs(WORK, ACTIVE)
    problem = "The jobs of 1 process cannot be read: a key has the wrong type or is too large."
    assert (page.at_least, page.problems) == (True, (problem,))
    redis_client.delete("processes", "paused")
    redis_client.mset({"processes": "x", "paused": "x"})
    shared, work = read_shared_and_queue(backend)
    problem = 'the key "processes" has the wrong type'
    assert (shared.workers, shared.error, shared.counts.dead) == (None, problem, 0)
    assert (work.workers, work.counts.active, work.counts.waiting, work.paused) == (None, None, 1, None)
    assert [(row.state, row.problem) for row in backend.list_workers([SHARED, WORK])] == [
        (WorkerState.UNKNOWN, problem)
    ]
    with pytest.raises(WrongType, match="processes"):
        backend.list_jobs(WORK, ACTIVE)


def test_a_schedule_key_of_the_wrong_type_is_listed_with_a_problem(backend: Sidekiq, redis_client: redis.Redis) -> None:
    fill(redis_client, 1, 1)
    redis_client.mset({"cron_jobs:default": "x", "schedules": "x"})
    told = {each.id: each.problem for each in backend.list_schedules([SHARED, WORK])}
    assert told == dict.fromkeys(("cron_jobs:default", "schedules"), "cannot be read: the key has the wrong type")
