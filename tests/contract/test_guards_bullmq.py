"""Guards of BullMQ's scripts that no other test covers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, JobRef
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.test_actions_bullmq import backups_of, outcomes

REF = QueueRef(source="main", backend="bullmq", name="alpha", key="bull:alpha")


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    source = Source("main", server.url)
    yield BullMQ(source, SourceSettings(name="main", url=server.url))
    source.close()


def test_a_parent_waits_for_a_restored_child_again(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    filled = BullMQLibrary().fill(server.url)
    (parent,) = filled.ids["alpha"][State.BLOCKED]
    children = {b"bull:alpha:photo-1", b"bull:alpha:photo-2"}
    taken = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id="photo-1")]))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, taken)) == ["done"]
    assert redis_client.smembers(f"bull:alpha:{parent}:dependencies") == children - {b"bull:alpha:photo-1"}
    assert outcomes(backend.restore_jobs(REF, State.WAITING, taken)) == ["done"]
    assert redis_client.smembers(f"bull:alpha:{parent}:dependencies") == children


def test_only_a_few_active_jobs_are_checked_for_locks(backend: BullMQ, redis_client: redis.Redis) -> None:
    redis_client.hset("bull:alpha:meta", "version", "bullmq:6.0.0")
    redis_client.rpush("bull:alpha:active", *(f"job-{n}" for n in range(500)))
    (stats,) = backend.read_stats([REF])
    assert (stats.counts.active, stats.stalled) == (500, 20)


@pytest.mark.parametrize(
    ("action", "state", "name"),
    [(Action.RETRY, State.DEAD, "failed"), (Action.PROMOTE, State.SCHEDULED, "delayed")],
    ids=["retry", "promote"],
)
def test_a_job_added_again_since_it_was_seen_is_kept(
    backend: BullMQ, redis_client: redis.Redis, action: Action, state: State, name: str
) -> None:
    redis_client.hset("bull:alpha:meta", "version", "bullmq:6.0.0")
    redis_client.hset("bull:alpha:1", mapping={"name": "work", "data": "{}", "opts": "{}"})
    redis_client.zadd(f"bull:alpha:{name}", {"1": 1_795_565_996_499})
    (seen,) = backend.list_job_refs(REF, JobQuery(state=state))
    redis_client.zadd(f"bull:alpha:{name}", {"1": 1_795_565_996_500})
    assert outcomes(backend.act_on_jobs(REF, action, state, [seen])) == ["changed"]
    assert redis_client.zscore(f"bull:alpha:{name}", "1") == 1_795_565_996_500
    assert outcomes(backend.act_on_jobs(REF, action, state, backend.list_job_refs(REF, JobQuery(state=state)))) == [
        "done"
    ]
    assert redis_client.lrange("bull:alpha:wait", 0, -1) == [b"1"]


@pytest.mark.parametrize(
    ("version", "list_name"), [("bullmq:6.0.0", "wait"), ("bullmq:5.81.0", "paused"), ("bullmq:4.18.0", "paused")]
)
def test_a_job_for_a_paused_queue_is_where_its_version_keeps_them(
    backend: BullMQ, redis_client: redis.Redis, version: str, list_name: str
) -> None:
    redis_client.hset("bull:alpha:meta", mapping={"version": version, "paused": 1})
    redis_client.hset("bull:alpha:1", mapping={"name": "work", "data": "{}", "opts": "{}"})
    redis_client.zadd("bull:alpha:failed", {"1": 1})
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id="1")])) == ["done"]
    lists = {name for name in ("wait", "paused") if redis_client.exists(f"bull:alpha:{name}")}
    assert lists == {list_name}
    assert not redis_client.exists("bull:alpha:marker")


@pytest.mark.parametrize("action", [Action.DUPLICATE, Action.EDIT])
@pytest.mark.parametrize(
    ("state", "name"), [(State.DEAD, "failed"), (State.COMPLETED, "completed"), (State.SCHEDULED, "delayed")]
)
def test_a_job_that_changed_since_it_was_seen_is_not_copied(
    backend: BullMQ, redis_client: redis.Redis, action: Action, state: State, name: str
) -> None:
    redis_client.hset("bull:alpha:meta", "version", "bullmq:6.0.0")
    for job_id in ("1", "2", "3"):
        redis_client.hset(f"bull:alpha:{job_id}", mapping={"name": "work", "data": "{}", "opts": "{}"})
        redis_client.zadd(f"bull:alpha:{name}", {job_id: 1_795_565_996_499})
    redis_client.set("bull:alpha:id", 3)
    seen = sorted(backend.list_job_refs(REF, JobQuery(state=state)), key=lambda job_ref: job_ref.id)
    redis_client.zadd(f"bull:alpha:{name}", {"1": 1_795_565_996_500})  # it ran again
    redis_client.zrem(f"bull:alpha:{name}", "2")
    redis_client.lpush("bull:alpha:active", "2")
    results = backend.act_on_jobs(REF, action, state, seen, ActionOptions(payload="{}"))
    assert outcomes(results) == ["changed", "changed", "done"]
    assert redis_client.lrange("bull:alpha:wait", 0, -1) == [b"4"]


@pytest.mark.parametrize("action", [Action.DUPLICATE, Action.EDIT])
def test_a_copy_drops_options_that_identify_the_original(
    backend: BullMQ, redis_client: redis.Redis, action: Action
) -> None:
    own = {
        "jobId": "1",
        "delay": 60_000,
        "parent": {"id": "2", "queue": "bull:beta"},
        "repeat": {"every": 1_000},
        "deduplication": {"id": "only"},
    }
    redis_client.hset("bull:alpha:meta", "version", "bullmq:6.0.0")
    opts = json.dumps({"attempts": 3, **own, "backoff": 5})
    redis_client.hset("bull:alpha:1", mapping={"name": "work", "data": "{}", "opts": opts})
    redis_client.zadd("bull:alpha:failed", {"1": 1})
    (copy,) = backend.act_on_jobs(REF, action, State.DEAD, [JobRef(id="1")], ActionOptions(payload="{}"))
    made = redis_client.hgetall(f"bull:alpha:{copy.new_id}")
    assert json.loads(made[b"opts"]) == {"attempts": 3, "backoff": 5}
    assert made[b"delay"] == b"0"
