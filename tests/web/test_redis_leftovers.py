"""Leftovers: each kind is found where it is, and nothing is found in queues that are as their libraries left them."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_redis_pages import plain

pytestmark = pytest.mark.usefixtures("unhurried")

ADDRESS = "/api/v1/redis/main/leftovers"
JOB = {"name": "encode", "data": "{}", "opts": "{}", "timestamp": "1700000000000"}


@pytest.fixture
def healthy(redis_client: redis.Redis) -> redis.Redis:
    """A Redis with queues of BullMQ and RQ without leftovers, whose keys look like those of jobs."""
    pipe = redis_client.pipeline()
    pipe.hset("bull:video:meta", "version", "bullmq:5.81.0")
    pipe.hset("bull:old:meta", "version", "bullmq:4.17.0")
    pipe.rpush("bull:old:wait", "0:")  # the marker of version 4, which is no job
    for number in range(150):
        pipe.hset(f"bull:video:{number}", mapping=JOB)
        pipe.lpush("bull:video:wait", number)
    pipe.hset("bull:video:150", mapping=JOB)
    pipe.zadd("bull:video:completed", {"150": 1})
    pipe.hset("bull:video:151", mapping=JOB | {"processedOn": "1700000000000"})
    pipe.rpush("bull:video:active", "151")
    pipe.set("bull:video:151:lock", "worker:1")
    pipe.set("bull:video:id", "151")
    pipe.xadd("bull:video:events", {"event": "completed"})
    pipe.sadd("queues", "default")
    pipe.lpush("queue:default", '{"class":"HardJob","jid":"abc","args":[],"queue":"default"}')
    pipe.execute()
    queue = Queue("mail", connection=redis_client)
    for number in range(20):
        queue.enqueue("app.mail.send", number)
    Queue("other", connection=redis_client).enqueue("app.mail.send")
    return redis_client


def known_dashboard(make_app: MakeApp) -> FlaskClient:
    client = make_app().test_client()
    wanted = {"video", "old", "mail", "other", "default"}
    wait_until(
        lambda: wanted <= {queue["name"] for queue in client.get("/api/v1/queues").json["queues"]},
        what="all queues being known",
    )
    return client


def kinds_of(client: FlaskClient) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in client.get(ADDRESS).json["leftovers"]}


def test_queues_without_leftovers_have_none(make_app: MakeApp, healthy: redis.Redis) -> None:
    before = {key: healthy.dump(key) for key in healthy.scan_iter()}
    client = known_dashboard(make_app)
    found = kinds_of(client)
    assert {kind: each["found"] for kind, each in found.items()} == dict.fromkeys(found, 0)
    assert found["unlisted"]["checked"] == 173
    assert found["missing"]["checked"] >= 70
    assert found["unlocked"]["checked"] == 1
    page = plain(client.get("/redis/main/leftovers").text)
    assert "No leftovers in the sample." in page
    assert "Private lists of workers that are gone none to check" in page
    assert {key: healthy.dump(key) for key in before} == before


def test_each_kind_of_leftover_is_found_with_its_link(make_app: MakeApp, healthy: redis.Redis) -> None:
    healthy.hset("bull:video:900", mapping=JOB)
    healthy.lpush("bull:video:wait", "<b>gone")
    healthy.delete("bull:video:151:lock")
    queue = Queue("mail", connection=healthy)
    lost, gone = queue.enqueue("app.mail.send", "lost"), queue.enqueue("app.mail.send", "gone")
    healthy.lrem("rq:queue:mail", 0, lost.id)
    healthy.delete(f"rq:job:{gone.id}")
    process = "host-1:17:0123456789ab"
    healthy.sadd("processes", process)
    healthy.hset(process, mapping={"info": '{"hostname":"host-1","pid":17,"concurrency":5}', "busy": "0", "beat": "1"})
    healthy.lpush(f"queue:sq|{process}|default", '{"class":"HardJob","jid":"safe"}')
    healthy.lpush("queue:sq|host-2:99:ba9876543210|default", '{"class":"HardJob","jid":"orphan"}')
    client = known_dashboard(make_app)
    found = kinds_of(client)

    def ids(kind: str) -> set[str]:
        return {example["id"] for example in found[kind]["examples"]}

    assert ids("unlisted") == {"900", lost.id}
    assert ids("unlocked") == {"151"}
    assert gone.id in ids("missing")
    assert [example["detail"] for example in found["private"]["examples"]] == [
        "queue:sq|host-2:99:ba9876543210|default: 1 job"
    ]
    assert found["private"]["checked"] == 2
    page = client.get("/redis/main/leftovers").text
    assert "/queues/main/bullmq/video/jobs/900" in page
    assert "<b>gone" not in page
    job = client.get("/queues/main/bullmq/video/jobs/900")
    assert 'value="delete"' in job.text  # which goes to the trash


def test_a_leftover_of_many_is_estimated(make_app: MakeApp, healthy: redis.Redis) -> None:
    pipe = healthy.pipeline()
    for number in range(1000, 1400):
        pipe.hset(f"bull:video:{number}", mapping=JOB)
    pipe.execute()
    healthy.zadd("bull:video:failed", {f"gone-{number}": number for number in range(40)})
    found = kinds_of(known_dashboard(make_app))
    # Each list counts with its length, however few of its ids were checked.
    assert (found["missing"]["found"], found["missing"]["estimate"]) == (40, 40)
    unlisted = found["unlisted"]
    assert unlisted["checked"] == 200
    assert len(unlisted["examples"]) == 10
    assert unlisted["estimate"] == pytest.approx(400, rel=0.3)
