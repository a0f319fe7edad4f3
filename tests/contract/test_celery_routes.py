"""Queues of Celery whose routing key is not their name, configured by `task_queues`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
import redis
from kombu.transport.virtual.exchange import TopicExchange

from dashboard.backends.actions import Action, ActionOptions, JobRef, Outcome
from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.keys import SEPARATOR as SEP
from dashboard.backends.celery.routes import UNROUTED, MessageRoute, QueueRoutes
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.test_celery import declare_queues, discover, message
from tests.waiting import wait_until

ROUTES = {
    "task_queues": {
        "alpha": {"exchange": "media", "exchange_type": "direct", "binding_key": "media.alpha"},
        "beta": {"exchange": "topics", "exchange_type": "topic", "binding_key": "beta.#"},
    }
}


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Celery]:
    source = Source("main", server.url)
    backend = Celery(source, SourceSettings(name="main", url=server.url))
    backend.own_source = source
    yield backend
    backend.close()
    source.close()


def test_a_held_message_with_a_routing_key_is_sent_to_its_queue(
    server: EmbeddedRedis, backend: Celery, redis_client: redis.Redis
) -> None:
    shop = Shop(server.url, conf=ROUTES)
    library = CeleryLibrary()
    try:
        with shop.worker():
            discover(backend)
            library.prepare(backend, redis_client)
            media = {"queue": None, "exchange": "media", "routing_key": "media.alpha", "countdown": 3600}
            now, kept = (shop.send(key, **media) for key in ("now", "kept"))
            topic = shop.send("topic", queue="beta", routing_key="beta.eu.high", countdown=3600)
            wait_until(lambda: redis_client.hlen("unacked") == 3, what="the worker picking them up")
            shared = discover(backend)["*"]
            rows = backend.list_jobs(shared, JobQuery(state=State.SCHEDULED, per_page=10)).jobs
            assert {job.id: job.queue for job in rows} == {now: "alpha", kept: "alpha", topic: "beta"}
            assert backend.read_job(shared, now).queue == "alpha"
            acts = ((Action.PROMOTE, now), (Action.DUPLICATE, kept), (Action.PROMOTE, topic))
            for action, job_id in acts:
                (result,) = backend.act_on_jobs(shared, action, State.SCHEDULED, [JobRef(id=job_id)], ActionOptions())
                assert result.outcome is Outcome.DONE, (action, result)
            wait_until(lambda: shop.read_marks("ran") == {"now": 1, "kept": 1, "topic": 1}, what="all three to run")
    finally:
        shop.close()


def test_a_message_that_routes_to_several_queues_or_none_is_refused(backend: Celery, redis_client: redis.Redis) -> None:
    for exchange, queues in (("fan", ("alpha", "beta")), ("nowhere", ())):
        for queue in queues:
            redis_client.sadd(f"_kombu.binding.{exchange}", SEP.join(("key", "", queue)))
        raw = message(exchange, eta="2100-01-01T00:00:00+00:00")
        entry = [json.loads(raw), exchange, "key"]
        redis_client.hset("unacked", exchange, json.dumps(entry))
        redis_client.zadd("unacked_index", {exchange: 1})
    declare_queues(redis_client, "alpha")
    before = redis_client.hgetall("unacked")
    shared = discover(backend)["*"]
    for action, job_id in itertools.product((Action.PROMOTE, Action.DUPLICATE), ("fan", "nowhere")):
        (result,) = backend.act_on_jobs(shared, action, State.SCHEDULED, [JobRef(id=job_id)], ActionOptions())
        assert (result.outcome, result.detail) == (Outcome.REFUSED, UNROUTED), (action, job_id)
    assert redis_client.hgetall("unacked") == before
    assert redis_client.exists("key", "alpha", "beta") == 0


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        ("beta.#", "beta", False),
        ("beta.#", "beta.", True),
        ("*", "", False),
        ("#", "", True),
        ("beta.#", "beta.eu.high", True),
        ("#.high", "beta.eu.high", True),
        ("beta.*", "beta.eu", True),
        ("beta.*", "beta.eu.high", False),
        ("*.eu.*", "beta.eu.high", True),
        ("#.#.#", "a.b", False),
        ("#.b.#", "a.b.b.c", True),
        ("beta", "alpha", False),
        ("beta.eu", "beta", False),
    ],
)
def test_topic_patterns_match_as_in_kombu(
    backend: Celery, redis_client: redis.Redis, pattern: str, key: str, fits: bool
) -> None:
    exchange = TopicExchange(None)
    row = exchange.prepare_bind("queue", "topics", pattern, {})
    assert (exchange.lookup([row], "topics", key, None) == {"queue"}) is fits
    redis_client.sadd("_kombu.binding.topics", SEP.join((pattern, row[1], "queue")))
    routes = QueueRoutes(backend.broker, "")
    routes.look_up([MessageRoute("topics", key)])
    assert routes.queue_of(MessageRoute("topics", key)) == ("queue" if fits else None)
