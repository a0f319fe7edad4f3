"""Memory by queue: estimates against what Redis measures of every key, within a budget, without permissions."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.backends.monitored_sources import open_sources
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.memory_usage.limited_reader import LimitedReader
from dashboard.memory_usage.measurement import measure_memory
from dashboard.model import QueueRef, QueueStats
from dashboard.settings import load
from dashboard.web.views.servers import source_reports
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_redis_pages import plain

pytestmark = pytest.mark.usefixtures("unhurried")

# The keys of each queue.
KEYS: dict[str, Callable[[str], bool]] = {
    "video": lambda key: key.startswith("bull:video:"),
    "mail": lambda key: key.startswith(("rq:job:", "rq:queue:mail", "rq:results:")),
    "default": lambda key: key == "queue:default",
    "tasks": lambda key: key == "tasks",
}


@pytest.fixture
def filled(redis_client: redis.Redis) -> redis.Redis:
    """A Redis with a queue of each library, whose jobs differ in size, results of Celery, and other keys."""
    chance = random.Random(5)
    queue = Queue("mail", connection=redis_client)
    for number in range(60):
        queue.enqueue(
            "app.mail.send", f"u{number}@example.com", body=chance.randbytes(chance.choice([100, 4000])).hex()
        )
    pipe = redis_client.pipeline()
    pipe.hset("bull:video:meta", "opts.maxLenEvents", "10000")
    for number in range(1500):
        name = "wait" if number < 1200 else "completed"
        data = json.dumps({"f": "z" * chance.choice([100, 300, 3000])})
        fields = {"name": "encode", "data": data, "opts": "{}", "timestamp": "1700000000000", "finishedOn": "17"}
        pipe.hset(f"bull:video:{number}", mapping=fields)
        pipe.lpush("bull:video:wait", number) if name == "wait" else pipe.zadd("bull:video:completed", {number: number})
    pipe.sadd("queues", "default")
    pipe.sadd("_kombu.binding.tasks", "tasks\x06\x16\x06\x16tasks")
    for number in range(900):
        job = {"class": "HardJob", "jid": f"{number:024x}", "args": ["a" * chance.choice([10, 200, 4000])]}
        pipe.lpush("queue:default", json.dumps(job | {"queue": "default", "created_at": time.time()}))
        headers = {"lang": "py", "task": "tasks.add", "id": f"task-{number}"}
        body = "b" * chance.choice([20, 2000])
        pipe.lpush("tasks", json.dumps({"body": body, "headers": headers, "properties": {"delivery_tag": str(number)}}))
        pipe.set(f"celery-task-meta-{number}", json.dumps({"status": "SUCCESS", "result": "r" * 500}))
        pipe.set(f"cache:{number}", "c" * 300)
    pipe.execute()
    return redis_client


@pytest.fixture
def browser(make_app: MakeApp, filled: redis.Redis) -> FlaskClient:
    """A browser on a dashboard that knows all queues."""
    client = make_app().test_client()
    wait_until(
        lambda: {"celery", "sidekiq"} <= shared_of(client) and len(client.get("/api/v1/queues").json["queues"]) >= 6,
        what="all queues being known",
    )
    return client


def shared_of(client: FlaskClient) -> set[str]:
    """The libraries with an entry for all queues."""
    return {queue["backend"] for queue in client.get("/api/v1/queues").json["queues"] if queue["shared"]}


def true_bytes(client: redis.Redis, belongs: Callable[[str], bool]) -> int:
    keys = [key for key in client.scan_iter(count=5000) if belongs(key.decode())]
    pipe = client.pipeline()
    for key in keys:
        pipe.memory_usage(key, samples=0)
    return sum(pipe.execute())


def test_each_estimate_is_near_the_truth_and_the_largest_jobs_have_links(
    browser: FlaskClient, filled: redis.Redis
) -> None:
    random.seed(3)  # of the samples
    filled.set("{queuedeck}:large", "x" * 1_000_000)  # an own key is in no queue
    answer = browser.get("/api/v1/redis/main/memory").json
    queues = {queue["queue"]: queue for queue in answer["queues"]}
    for name, belongs in KEYS.items():
        truth, found = true_bytes(filled, belongs), queues[name]["memory"]
        # Within twice the error, which happens in 9,999 of 10,000 cases; and for lists, what Redis needs around a job.
        assert abs(found["total_bytes"] - truth) <= 2 * found["error_bytes"] + 0.05 * truth, name
        assert found["error_bytes"] < 0.25 * truth
        assert queues[name]["complete"]
    assert queues["video"]["jobs"] == 1500
    assert 200 <= queues["video"]["sampled"] <= 800
    assert queues["mail"]["memory"]["error_bytes"] == 0
    results = next(part for part in answer["other_keys"] if part["backend"] == "celery")
    assert results["keys"] == 900
    assert results["memory"]["total_bytes"] == pytest.approx(
        true_bytes(filled, lambda key: key.startswith("celery-task-meta-")), rel=0.02
    )
    assert answer["rest_bytes"] > 0
    assert answer["unmeasured"] == 0
    sizes = [job["memory_bytes"] for job in answer["largest_jobs"]]
    assert sizes == sorted(sizes, reverse=True)
    largest = {job["backend"]: job for job in answer["largest_jobs"]}
    assert set(largest) == {"bullmq", "celery", "rq", "sidekiq"}
    for backend, job in largest.items():
        assert browser.get(f"/queues/main/{backend}/{job['queue']}/jobs/{job['id']}").status_code == 200
    page = browser.get("/redis/main/memory").text
    text = plain(page)
    assert "All of BullMQ" in text
    assert "Results of Celery" in text
    assert "Other keys and Redis itself" in text
    libraries = [part for part in (*answer["queues"], *answer["other_keys"]) if part["backend"] is not None]
    lead = re.search(r"([\d.]+)\sMiB[^a-z]* in queues and results, of", text)
    assert lead is not None
    assert float(lead[1]) == pytest.approx(sum(part["memory"]["total_bytes"] for part in libraries) / 2**20, abs=0.1)
    assert "Measure again" not in text  # it was measured just now
    assert re.search(r"Estimated (just now|[\d.]+\s\w+ ago) from a sample", text)
    assert f"/queues/main/{answer['largest_jobs'][0]['backend']}/" in page


def test_a_measurement_takes_small_steps_and_is_shared(
    browser: FlaskClient, filled: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured() -> int:
        return int(filled.info("commandstats")["cmdstat_memory|usage"]["calls"])

    filled.config_resetstat()
    answer = browser.get("/api/v1/redis/main/memory").json
    stats = filled.info("commandstats")
    assert answer["cost"]["commands"] / answer["cost"]["round_trips"] <= 50
    assert "cmdstat_keys" not in stats
    assert stats["cmdstat_scan"]["calls"] <= 6
    before = measured()
    assert browser.get("/redis/main/memory?again=1").status_code == 200
    assert measured() == before  # shared, and too early to repeat
    monkeypatch.setattr(source_reports, "AGAIN_S", -1.0)
    assert browser.get("/redis/main/memory").status_code == 200
    assert measured() == before
    assert browser.get("/redis/main/memory?again=1").status_code == 200
    assert measured() >= 1.5 * before


def queue_of(name: str) -> QueueStats:
    return QueueStats(source="main", backend="rq", name=name, key=f"rq:queue:{name}")


def test_a_budget_that_is_too_small_is_stated(server: EmbeddedRedis, filled: redis.Redis) -> None:
    sources = open_sources(load(keywords={"redis_url": server.url}))
    source = sources.sources["main"]
    queues = [queue_of(name) for name in ("mail", "none", "other")]
    queues += [queue_of(f"more-{number}") for number in range(30)]
    report = measure_memory(source, queues, sources.backend, LimitedReader(source, max_commands=130))
    assert (len(report.queues), report.unmeasured) == (10, 23)
    assert not report.queues[0].is_complete
    assert report.commands <= 180
    sources.close()


def test_keys_of_another_type_and_hostile_names_cost_their_row(
    make_app: MakeApp, redis_client: redis.Redis, jobs: list[str]
) -> None:
    redis_client.set("rq:failed:mail", "no sorted set")
    redis_client.sadd("rq:queues", "rq:queue:<b>\xff\n")
    redis_client.rpush("rq:queue:<b>\xff\n", "../../<script>", b"\xff\xfe")
    redis_client.hset("rq:job:../../<script>", "data", "x" * 5000)
    client = make_app().test_client()
    assert client.get("/").status_code == 200
    page = client.get("/redis/main/memory").text
    assert "at least" in plain(page)
    assert "<script>" not in page.replace("<script src", "")
    assert "../../&lt;script&gt;" in page


def test_without_memory_usage_the_page_says_what_is_missing(
    make_app: MakeApp, redis_client: redis.Redis, server: EmbeddedRedis, jobs: list[str]
) -> None:
    redis_client.execute_command("ACL", "SETUSER", "meter", "on", ">secret", "~*", "&*", "+@all", "-memory")
    try:
        client = make_app(redis_url=server.url.replace("redis://", "redis://meter:secret@")).test_client()
        client.get("/")
        page = client.get("/redis/main/memory")
        assert page.status_code == 200
        assert "The memory of queues cannot be measured" in plain(page.text)
        assert "It needs MEMORY USAGE" in plain(page.text)
        answer = client.get("/api/v1/redis/main/memory")
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "forbidden")
    finally:
        redis_client.execute_command("ACL", "DELUSER", "meter")


def test_the_shared_entry_of_a_queue_is_described(server: EmbeddedRedis) -> None:
    sources = open_sources(load(keywords={"redis_url": server.url}))
    ref = QueueRef(source="main", backend="sidekiq", name="*", key="*", shared=True)
    storage = sources.backend("main", "sidekiq").describe_storage(ref)
    assert storage is not None
    assert [stored.key for stored in storage.keys] == [b"schedule", b"retry", b"dead"]
    sources.close()
