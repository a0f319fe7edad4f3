"""One job or one queue that cannot be read costs itself: all others are shown, searched and acted on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.backends.base import Backend
from dashboard.backends.bullmq import jobs as bullmq_pages
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.celery import job_decoding as celery_message
from dashboard.backends.celery.backend import Celery
from dashboard.backends.rq import jobs as rq_jobs
from dashboard.backends.rq.backend import RQ
from dashboard.backends.sidekiq import jobs as sidekiq_pages
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.demo.embedded import EmbeddedRedis
from tests.contract.bullmq_library import BullMQLibrary
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME

HALF = "Party \ud83c"  # what `text.slice(0, 7)` leaves of an emoji
BROKEN = {"bullmq": BullMQ, "rq": RQ, "sidekiq": Sidekiq, "celery": Celery}


class Odd(Exception):
    """An unexpected error."""


@pytest.mark.parametrize("alias", ["bullmq", "bullmq5", "bullmq4"])
def test_half_an_emoji_in_a_stack_trace_hides_nothing(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    library = BullMQLibrary(alias)
    worker = library.drive("consume", server.url, "posts", failing=True)["worker"]
    for job_id, text in (("p1", HALF), ("p2", "other")):
        library.drive("add", server.url, "posts", data={"fail": True, "n": text}, opts={"jobId": job_id})
    wait_until(lambda: redis_client.zcard("bull:posts:failed") == 2, what="both failures")
    library.drive("stop", server.url, "posts", worker=worker)
    assert b"\\ud83c" in redis_client.hget("bull:posts:p1", "stacktrace")
    client = make_app().test_client()
    shown = client.get("/api/v1/queues/main/bullmq/posts/jobs/p1")
    assert shown.status_code == 200
    assert "broken Party \ufffd" in shown.get_json()["error"]["stack"]
    page = client.get("/queues/main/bullmq/posts/jobs/p1")
    assert page.status_code == 200
    assert "broken Party \ufffd" in page.text
    found = client.get("/api/v1/search?q=broken").get_json()
    assert ({job["id"] for job in found["jobs"]}, found["problems"]) == ({"p1", "p2"}, [])
    dead = client.get("/api/v1/dead").get_json()
    assert (dead["scanned"], dead["problems"]) == (2, [])
    spec = {"source": "main", "backend": "bullmq", "queue": "posts", "state": "dead", "action": "retry", "q": "broken"}
    seen = client.post("/api/v1/bulk", json=spec | {"preview": True}, headers=SAME)
    assert (seen.status_code, seen.get_json()["matched"]) == (200, 2)
    acted = client.post("/api/v1/queues/main/bullmq/posts/jobs/p1/retry", json={}, headers=SAME)
    assert (acted.status_code, acted.get_json()["outcome"]) == (200, "done")


def test_half_an_emoji_in_the_options_of_a_schedule(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    library = BullMQLibrary("bullmq4")
    library.drive("schedule", server.url, "posts")
    (run, *_) = redis_client.zrange("bull:posts:delayed", 0, -1)
    key = b"bull:posts:" + run
    options = json.loads(redis_client.hget(key, "opts"))
    options["repeat"]["tz"] = HALF
    redis_client.hset(key, "opts", json.dumps(options))
    wait_until(lambda: client.get("/api/v1/schedules").get_json()["schedules"], what="the schedules")
    told = client.get("/api/v1/schedules").get_json()
    assert (len(told["schedules"]), told["problems"]) == (2, [])
    assert any(each["timezone"] == "Party \ufffd" for each in told["schedules"])


def fill(client: redis.Redis) -> None:
    """In each library a queue `bad` in which a job waits, and a healthy one of BullMQ with a dead job."""
    for name in ("good", "bad"):
        client.hset(f"bull:{name}:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
        client.zadd(f"bull:{name}:failed", {"b1": 1_700_000_000_000})
        job = {"name": "needle", "data": "{}", "opts": "{}", "timestamp": 1_700_000_000_000, "failedReason": "needle"}
        client.hset(f"bull:{name}:b1", mapping=job)
    client.lpush("bull:bad:wait", "b1")
    Queue("bad", connection=client).enqueue("app.needle")
    client.sadd("queues", "bad")
    client.lpush("queue:bad", json.dumps({"class": "Needle", "args": [], "jid": "s1", "queue": "bad"}))
    client.sadd("_kombu.binding.bad", "bad\x06\x16\x06\x16bad")
    headers = {"id": "c1", "task": "needle"}
    client.lpush("bad", json.dumps({"headers": headers, "properties": {}, "body": "[[], {}, {}]"}))


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, library: type[Backend], *methods: str) -> Iterator[None]:
    """Have methods of a library's backend fail for its queue `bad`."""
    with monkeypatch.context() as patch:
        for name in methods:
            real = getattr(library, name)

            def broken(self: Any, refs: Any, *arguments: Any, _real: Any = real, **named: Any) -> Any:
                if any(ref.name == "bad" for ref in (refs if isinstance(refs, list | tuple) else [refs])):
                    raise Odd("odd data")
                return _real(self, refs, *arguments, **named)

            patch.setattr(library, name, broken)
        yield


@pytest.mark.parametrize("name", BROKEN)
def test_an_unreadable_queue_is_listed_with_the_others(
    make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(redis_client)
    client = make_app(dlq_queues=["bad"]).test_client()
    wait_until(lambda: client.get("/api/v1/queues").get_json()["total"] >= 5, what="all queues")
    with failing(monkeypatch, BROKEN[name], "search_page", "scan_matches", "list_job_refs", "list_jobs", "read_job"):
        told = "could not be read: Odd; the log has the details"
        found = client.get("/api/v1/search?q=needle").get_json()
        assert ("b1", "good") in {(job["id"], job["queue"]) for job in found["jobs"]}
        assert [problem for problem in found["problems"] if problem.startswith("bad: ") and problem.endswith(told)]
        page = client.get("/search?q=needle")
        assert page.status_code == 200
        assert told in page.text
        dead = client.get("/api/v1/dead").get_json()
        assert any("good" in group["queues"] for group in dead["groups"])
        problems = [each for each in dead["problems"] if (each["backend"], each["queue"]) == (name, "bad")]
        assert problems
        assert problems[0]["message"].endswith(told)
        assert told in client.get("/dead").text
        page = client.get(f"/queues/main/{name}/bad")
        assert page.status_code == 200
        assert told in page.text
        answer = client.get(f"/api/v1/queues/main/{name}/bad/jobs")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "unreadable")
        answer = client.get(f"/api/v1/queues/main/{name}/bad/jobs?q=needle").get_json()
        assert answer["problems"]
        assert client.get(f"/queues/main/{name}/bad/jobs/b1").status_code == 503
        spec = {"source": "main", "backend": name, "queue": "bad", "state": "waiting", "action": "delete"}
        spec |= {"q": "needle", "preview": True}
        answer = client.post("/api/v1/bulk", json=spec, headers=SAME)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "unreadable"), answer.get_json()
        spec |= {"backend": "bullmq", "queue": "good", "state": "dead"}
        answer = client.post("/api/v1/bulk", json=spec, headers=SAME)
        assert (answer.status_code, answer.get_json()["matched"]) == (200, 1)


@pytest.mark.parametrize("name", BROKEN)
def test_a_queue_without_figures_is_sampled_with_the_others(
    make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(redis_client)
    with failing(monkeypatch, BROKEN[name], "refresh_stats", "read_flow"):
        client = make_app().test_client()

        def told() -> bool:
            queues = client.get("/api/v1/queues").get_json()["queues"]
            errors = {(queue["backend"], queue["name"]): queue["error"] for queue in queues}
            return errors.get((name, "bad")) == "could not be read: Odd; the log has the details" and not errors.get(
                ("bullmq", "good"), "not there yet"
            )

        wait_until(told, what="both queues")
        source = client.get("/api/v1/redis").get_json()["sources"][0]
        assert any("rates could not be read" in problem for problem in source["problems"])


DECODING = {
    "bullmq": (bullmq_pages, "_build_job"),
    "rq": (rq_jobs, "job_of"),
    "sidekiq": (sidekiq_pages, "job_row"),
    "celery": (celery_message, "_message_row"),
}


@pytest.mark.parametrize("name", DECODING)
def test_an_undecodable_job_affects_one_row(
    make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(redis_client)
    redis_client.lpush("bull:bad:wait", "b2")
    Queue("bad", connection=redis_client).enqueue("app.other")
    redis_client.lpush("queue:bad", json.dumps({"class": "Other", "args": [], "jid": "s2", "queue": "bad"}))
    headers = {"id": "c2", "task": "other"}
    redis_client.lpush("bad", json.dumps({"headers": headers, "properties": {}, "body": "[[], {}, {}]"}))
    module, function = DECODING[name]
    real, calls = getattr(module, function), []

    def broken(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) % 2:
            raise Odd("odd data")
        return real(*arguments, **named)

    client = make_app().test_client()
    wait_until(lambda: client.get("/api/v1/queues").get_json()["total"] >= 5, what="all queues")
    monkeypatch.setattr(module, function, broken)
    jobs = client.get(f"/api/v1/queues/main/{name}/bad/jobs").get_json()["jobs"]
    assert [job["problem"] for job in jobs].count("it could not be read: Odd; the log has the details") == 1
    assert len({job["id"] for job in jobs}) == 2
    found = client.get(f"/api/v1/search?q=state:waiting+library:{name}").get_json()
    assert len(found["jobs"]) == 2
    assert not found["problems"]


def test_half_an_emoji_in_an_id_inside_json(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """Ids and queue names that are not Redis keys themselves but part of JSON."""
    rq_job = Queue("mail", connection=redis_client).enqueue("app.mail.send")
    redis_client.hset(f"rq:job:{rq_job.id}", "dependency_ids", json.dumps([HALF, "other"]))
    call = {"id": "held", "task": "app.send", "retries": 0, "eta": None, "argsrepr": "()", "kwargsrepr": "{}"}
    envelope = {
        "body": "W1tdLCB7fSwge31d",
        "headers": call,
        "content-type": "application/json",
        "properties": {"body_encoding": "base64", "correlation_id": "held", "delivery_tag": "tag"},
    }
    redis_client.sadd("_kombu.binding.mail", "mail\x06\x16\x06\x16mail")
    redis_client.hset("unacked", "tag", json.dumps([envelope, "", HALF]))
    redis_client.zadd("unacked_index", {"tag": 1})
    redis_client.set("celery-task-meta-ended", json.dumps({"status": "FAILURE", "result": None, "queue": HALF}))
    wait_until(lambda: len(client.get("/api/v1/queues").get_json()["queues"]) == 3, what="the queues")
    path = f"/api/v1/queues/main/rq/mail/jobs/{rq_job.id}"
    shown = client.get(path)
    assert shown.status_code == 200, shown.text
    assert shown.get_json()["id"] == rq_job.id
    assert client.get(path.removeprefix("/api/v1")).status_code == 200
    for job_id in ("held", "ended"):
        for verb in ("duplicate", "retry"):
            answer = client.post(f"/api/v1/queues/main/celery/*/jobs/{job_id}/{verb}", json={}, headers=SAME)
            assert answer.status_code in (200, 403, 404, 409, 422), (job_id, verb, answer.text)
            assert "could not be read" not in answer.text


def test_odd_data_of_one_sidekiq_process_hides_no_queue(client: FlaskClient, redis_client: redis.Redis) -> None:
    redis_client.sadd("queues", "mail", "later")
    redis_client.set("stat:processed", 1)
    redis_client.lpush("queue:mail", json.dumps({"class": "Send", "jid": "a" * 24, "args": [], "queue": "mail"}))
    redis_client.lpush("queue:later", '{"class":"Send","jid":"b","args":[],"queue":"later","enqueued_at":1e999}')
    for n, odd in enumerate(('"\\ud83c"', '"\u0665"', "1e999", "[null]", '{"a":1}')):
        name = f"host:{n}:abc"
        info = f'{{"hostname":{odd},"pid":{odd},"tag":{odd},"concurrency":{odd},"queues":[{odd}],"labels":[{odd}],'
        info += f'"version":{odd},"started_at":{odd},"identity":"{name}"}}'
        redis_client.sadd("processes", name)
        redis_client.hset(name, mapping={"info": info, "busy": 0, "beat": 1_700_000_000, "quiet": "false"})
    wait_until(lambda: len(client.get("/api/v1/queues").get_json()["queues"]) == 5, what="the queues")
    rows = {row["name"]: row for row in client.get("/api/v1/queues").get_json()["queues"]}
    assert [row["error"] for row in rows.values()] == [None] * 5
    assert "\udced\udca0\udcbc" in rows  # the bytes that Ruby makes of half a surrogate pair
    assert rows["mail"]["counts"]["waiting"] == 1
    assert rows["later"]["latency_s"] is None  # not 0: when it was put in line is not known
    for path in (
        "/",
        "/workers",
        "/dead",
        "/queues/main/sidekiq/mail",
        "/metrics",
        "/api/v1/workers",
    ):
        assert client.get(path).status_code == 200, path
    assert len(client.get("/api/v1/workers").get_json()["workers"]) == 5


def test_a_bulk_operation_on_a_group_names_unreadable_lists(
    make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(redis_client)
    client = make_app().test_client()
    group = wait_until(
        lambda: next((each for each in client.get("/api/v1/dead").get_json()["groups"] if each["count"] == 2), None),
        what="the group of both queues",
    )
    spec = {"action": "delete", "fingerprint": group["fingerprint"], "pace_per_s": 0}

    def ended(bulk_id: str) -> dict[str, Any]:
        url = f"/api/v1/bulk/{bulk_id}"
        return wait_until(
            lambda: (work := client.get(url).get_json())["state"] in ("done", "failed") and work, what="the end"
        )

    with failing(monkeypatch, BullMQ, "search_page", "list_job_refs", "list_jobs"):
        answer = client.post("/api/v1/bulk", json=spec, headers=SAME)
        assert answer.status_code == 201, answer.get_json()
        work = ended(answer.get_json()["bulk_id"])
        assert (work["state"], work["done"], work["matched"], work["unread_count"]) == ("done", 1, 1, 1)
        assert [line for line in work["unread"] if line.startswith("bad (bullmq on main): ") and "Odd" in line]
        page = client.get(f"/bulk/{work['bulk_id']}").text
        assert "1 list could not be read" in page
        assert "bad (bullmq on main)" in page
        assert any("1 list could not be read" in (event["detail"] or "") for event in audit(client))
        # Nothing but that list is left: it could not be done at all.
        wait_until(
            lambda: not client.post("/api/v1/bulk", json={**spec, "preview": True}, headers=SAME).get_json()["exact"],
            what="a reading of it",
        )
        seen = client.post("/api/v1/bulk", json={**spec, "preview": True}, headers=SAME).get_json()
        assert [line for line in seen["unread"] if line.startswith("bad (bullmq on main): ")]
        answer = client.post("/api/v1/bulk", json=spec, headers=SAME)
        if answer.status_code == 201:
            work = ended(answer.get_json()["bulk_id"])
            assert (work["state"], work["done"]) == ("failed", 0)
            assert "bad (bullmq on main)" in work["note"]
    work = ended(client.post("/api/v1/bulk", json=spec, headers=SAME).get_json()["bulk_id"])
    assert (work["state"], work["done"], work["unread"]) == ("done", 1, [])


def audit(client: FlaskClient) -> list[dict[str, Any]]:
    """The newest events of the audit."""
    events: list[dict[str, Any]] = client.get("/api/v1/audit").get_json()["events"]
    return events
