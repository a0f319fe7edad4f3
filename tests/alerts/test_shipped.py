"""Shipped rules on what real libraries and a real Redis leave behind: each fires, and resolves when it is mended.

The samples are real; only the time between them is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.suspension import resume, suspend

from dashboard.alerts.rules import shipped
from dashboard.collect.sampler import Sampler
from dashboard.collect.watch import watch
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.settings import load
from tests.unit.alerts.test_evaluate import INTERVAL_S, Watch


class Scene:
    """A sampler on a real Redis, and the shipped rules."""

    def __init__(self, server: EmbeddedRedis, client: redis.Redis) -> None:
        self.redis = client
        self.queue = Queue("mail", connection=client)
        self._watch = watch(load(environ={}, keywords={"redis_url": server.url}))
        self._sampler = Sampler(self._watch, INTERVAL_S, "test")
        self._alerts = Watch(*shipped(INTERVAL_S))
        self.queue.enqueue("os.getpid").delete()  # the queue is known and empty
        self.look(40)

    def look(self, times: int = 1) -> None:
        """See one sample, as if it had stayed like that for so many intervals."""
        snapshot = self._sampler.sample(epoch=1)
        self._alerts.see(snapshot, times=times, history=self._sampler.history)

    def fired(self, rule: str, after_s: float) -> bool:
        """Whether the rule was told of when things had stayed as they are for so long."""
        before = len(self._alerts.told)
        self.look(int(after_s / INTERVAL_S) + 2)
        return (rule, "firing") in {(name, kind) for name, kind, _ in self._alerts.told[before:]}

    def resolved(self, rule: str) -> bool:
        """Whether its end was told within the time of recovery."""
        before = len(self._alerts.told)
        self.look(40)
        return (rule, "resolved") in {(name, kind) for name, kind, _ in self._alerts.told[before:]}

    def work(self) -> None:
        SimpleWorker([self.queue], connection=self.redis).work(burst=True, logging_level="CRITICAL")

    def close(self) -> None:
        self._watch.close()


@pytest.fixture
def scene(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Scene]:
    scene = Scene(server, redis_client)
    yield scene
    scene.close()
    redis_client.config_set("maxmemory", 0)
    redis_client.config_set("maxmemory-policy", "noeviction")
    redis_client.config_set("maxclients", 10_000)


def test_nothing_is_wrong_with_a_queue_at_rest(scene: Scene) -> None:
    scene.look(1000)
    assert scene._alerts.told == []


def test_jobs_without_a_worker(scene: Scene) -> None:
    scene.queue.enqueue("os.getpid")
    assert scene.fired("queue-no-consumers", 120)
    assert "workers-gone" not in {rule for rule, _, _ in scene._alerts.told}  # one incident, one alert
    scene.work()
    assert scene.resolved("queue-no-consumers")


def test_jobs_that_wait_too_long(scene: Scene) -> None:
    job = scene.queue.enqueue("os.getpid")
    job.enqueued_at = datetime.now(UTC) - timedelta(seconds=400)
    job.save()
    assert scene.fired("queue-latency", 120)
    scene.work()
    assert scene.resolved("queue-latency")


def test_a_queue_in_which_nothing_ends(scene: Scene) -> None:
    scene.queue.enqueue("os.getpid")
    assert scene.fired("queue-no-progress", 960)
    scene.work()
    assert scene.resolved("queue-no-progress")


def test_jobs_that_fail_and_pile_up(scene: Scene) -> None:
    for _ in range(110):
        scene.queue.enqueue("os.strerror")  # without its argument it fails
    scene.work()
    told = {rule for rule in ("queue-dead", "queue-dead-growth", "queue-errors") if scene.fired(rule, 302)}
    assert {rule for rule, kind, _ in scene._alerts.told if kind == "firing"} >= {"queue-dead", "queue-errors"}
    assert told
    registry = scene.queue.failed_job_registry
    for job_id in registry.get_job_ids():
        registry.remove(job_id)
    assert scene.resolved("queue-dead")


def test_a_scheduled_job_that_nobody_starts(scene: Scene) -> None:
    job = scene.queue.enqueue_at(datetime.now(UTC) - timedelta(seconds=400), "os.getpid")
    assert scene.fired("queue-overdue", 60)
    scene.queue.scheduled_job_registry.remove(job)
    assert scene.resolved("queue-overdue")


def test_a_pause_that_was_forgotten(scene: Scene) -> None:
    suspend(scene.redis)
    scene.queue.enqueue("os.getpid")
    assert scene.fired("queue-paused", 3700)
    resume(scene.redis)
    assert scene.resolved("queue-paused")


def test_an_active_job_whose_worker_is_gone(scene: Scene) -> None:
    scene.redis.zadd("rq:wip:mail", {"lost:1": 1.0})
    assert scene.fired("queue-stalled", 120)
    scene.redis.delete("rq:wip:mail")
    assert scene.resolved("queue-stalled")


@pytest.mark.parametrize(("share", "severity"), [(0.8, "warning"), (0.95, "critical")])
def test_memory_near_its_limit(scene: Scene, share: float, severity: str) -> None:
    used = scene.redis.info("memory")["used_memory"]
    scene.redis.config_set("maxmemory", int(used / share))
    assert scene.fired("redis-memory", 60)
    assert {state.severity.value for state in scene._alerts.states.values() if state.active} >= {severity}
    scene.redis.config_set("maxmemory", used * 10)
    assert scene.resolved("redis-memory")


def test_writes_that_are_refused(scene: Scene) -> None:
    scene.redis.config_set("maxmemory", 1)
    assert scene.fired("redis-writes-refused", 30)
    scene.redis.config_set("maxmemory", 0)
    assert scene.resolved("redis-writes-refused")


def test_a_policy_that_may_evict_jobs_of_bullmq(scene: Scene) -> None:
    scene.redis.hset("bull:video:meta", mapping={"opts.maxLenEvents": 10_000, "version": "bullmq:5.0.0"})
    scene.redis.config_set("maxmemory", 10**12)
    scene.redis.config_set("maxmemory-policy", "allkeys-lru")
    scene._sampler._searches.clear()  # look for queues at once
    assert scene.fired("redis-eviction-policy", 60)
    scene.redis.config_set("maxmemory-policy", "noeviction")
    assert scene.resolved("redis-eviction-policy")


def test_connections_near_their_limit(scene: Scene) -> None:
    connected = scene.redis.info("clients")["connected_clients"]
    scene.redis.config_set("maxclients", connected)
    assert scene.fired("redis-clients", 60)
    scene.redis.config_set("maxclients", 10_000)
    assert scene.resolved("redis-clients")
