"""The JSON API as scripts use it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}
QUEUE_FIELDS = {
    *("source", "backend", "name", "paused", "shared", "counts", "depth", "latency_s", "throughput_per_min"),
    *("failed_per_min", "error_ratio", "runtime_p50_s", "runtime_p95_s", "workers", "capabilities", "error"),
}
JOB_FIELDS = {
    *("id", "source", "backend", "queue", "name", "state", "native_state", "enqueued_at", "scheduled_for"),
    *("started_at", "finished_at", "attempts", "max_attempts", "progress", "payload", "payload_truncated", "result"),
    *("error", "timeline", "parent", "children", "logs", "capabilities"),
}


def test_the_overview_of_an_empty_redis(client: FlaskClient) -> None:
    answer = client.get("/api/v1/overview").get_json()
    assert answer["queues"] == []
    assert answer["sampled_at"].endswith("Z")
    (source,) = answer["sources"]
    assert source["reachable"] is True
    assert source["redis"]["used_memory_bytes"] > 0
    assert source["redis"]["maxmemory_bytes"] is None
    assert answer["totals"]["depth"] is None


def test_the_overview_with_jobs(client: FlaskClient, jobs: list[str]) -> None:
    answer = client.get("/api/v1/overview").get_json()
    (queue,) = answer["queues"]
    assert set(queue) >= QUEUE_FIELDS
    assert set(queue["counts"]) == {state.value for state in State}
    assert (queue["backend"], queue["name"], queue["depth"], queue["counts"]["waiting"]) == ("rq", "mail", 3, 3)
    assert queue["counts"]["retrying"] is None
    assert queue["latency_s"] >= 0
    assert answer["totals"]["depth"] == 3


def test_queues_are_filtered(client: FlaskClient, jobs: list[str], redis_client: redis.Redis) -> None:
    Queue("Images", connection=redis_client).enqueue("app.resize")
    names = [queue["name"] for queue in client.get("/api/v1/queues").get_json()["queues"]]
    assert names == ["Images", "mail"]
    assert client.get("/api/v1/queues?q=IMA").get_json()["total"] == 1
    assert client.get("/api/v1/queues?backend=bullmq").get_json()["queues"] == []
    assert client.get("/api/v1/queues?source=main&backend=rq").get_json()["total"] == 2


def test_one_queue_and_its_jobs(client: FlaskClient, jobs: list[str]) -> None:
    assert client.get("/api/v1/queues/main/rq/mail").get_json()["depth"] == 3
    page = client.get("/api/v1/queues/main/rq/mail/jobs?state=waiting&page=2&per_page=2").get_json()
    assert (page["page"], page["per_page"], page["total"]) == (2, 2, 3)
    assert [job["id"] for job in page["jobs"]] == jobs[2:]
    assert page["jobs"][0]["state"] == "waiting"


def test_one_job_with_its_payload_and_without_its_password(client: FlaskClient, jobs: list[str]) -> None:
    response = client.get(f"/api/v1/queues/main/rq/mail/jobs/{jobs[0]}")
    job = response.get_json()
    assert set(job) >= JOB_FIELDS
    assert job["name"] == "app.mail.send"
    assert "user0@example.com" in str(job["payload"])
    assert "hunter2" not in response.text


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/nothing", 404, "not_found"),
        ("/api/v1/queues/main/rq/none", 404, "not_found"),
        ("/api/v1/queues/none/rq/mail", 404, "not_found"),
        ("/api/v1/queues/main/none/mail", 404, "not_found"),
        ("/api/v1/queues/main/rq/mail/jobs/none", 404, "not_found"),
        ("/api/v1/queues/main/rq/mail/jobs?state=odd", 422, "unsupported"),
        ("/api/v1/queues/main/rq/mail/jobs?page=0", 422, "unsupported"),
        ("/api/v1/queues/main/rq/mail/jobs?per_page=100000", 422, "unsupported"),
        ("/api/v1/queues/main/rq/mail/jobs?state=waiting&native=odd", 422, "unsupported"),
    ],
)
def test_an_error_is_json_of_one_shape(client: FlaskClient, jobs: list[str], path: str, status: int, code: str) -> None:
    response = client.get(path)
    assert response.status_code == status
    error = response.get_json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == code


def test_a_wrong_method_is_an_error_in_json(client: FlaskClient) -> None:
    response = client.post("/api/v1/overview", headers={"Sec-Fetch-Site": "same-origin"})
    assert response.status_code == 405
    assert response.get_json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("name", ["a/b", "a:b", "100%", "<script>", "日本", "a b", "a%2Fb"])
def test_a_queue_of_any_name_is_reached(client: FlaskClient, redis_client: redis.Redis, name: str) -> None:
    job = Queue(name, connection=redis_client).enqueue("f")
    path = f"/api/v1/queues/main/rq/{quote(name, safe='')}"
    assert client.get(path).get_json()["name"] == name
    assert client.get(f"{path}/jobs").get_json()["jobs"][0]["id"] == job.id
    assert client.get(f"{path}/jobs/{job.id}").get_json()["queue"] == name


def test_a_raw_colon_works_like_an_encoded_one(client: FlaskClient, redis_client: redis.Redis) -> None:
    Queue("a:b", connection=redis_client).enqueue("f")
    assert client.get("/api/v1/queues/main/rq/a:b").get_json()["name"] == "a:b"
    assert client.get("/api/v1/queues/main/rq/a%3Ab").get_json()["name"] == "a:b"


def test_an_unreachable_redis_is_reported_and_jobs_return_503(make_app: MakeApp) -> None:
    client = make_app(redis_url="redis://:secret@127.0.0.1:1/0").test_client()
    answer = client.get("/api/v1/overview")
    (source,) = answer.get_json()["sources"]
    assert (source["reachable"], source["error"]) == (False, "Connection refused by redis://127.0.0.1:1/0")
    assert "secret" not in answer.text
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_readyz_is_ok_while_the_store_responds(client: FlaskClient) -> None:
    assert client.get("/readyz").get_json() == {"status": "ok"}


def test_readyz_depends_on_the_store_and_not_on_watched_servers(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    gone = "redis://127.0.0.1:1/0"
    sources = [{"name": "here", "url": server.url}, {"name": "gone", "url": gone}]
    client = make_app(sources=sources).test_client()
    assert client.get("/readyz").status_code == 200
    assert {each["name"]: each["reachable"] for each in client.get("/api/v1/overview").get_json()["sources"]} == {
        "here": True,
        "gone": False,
    }
    assert make_app(sources=sources, store_url=gone).test_client().get("/readyz").status_code == 503
    assert make_app(sources=sources[::-1]).test_client().get("/readyz").status_code == 503


def test_the_last_hour_of_a_queue(make_app: MakeApp, jobs: list[str]) -> None:
    client = make_app().test_client()
    client.get("/api/v1/overview")  # the first sample makes the first point
    answer = client.get("/api/v1/queues/main/rq/mail/history").get_json()
    assert (answer["metric"], answer["unit"], answer["step_s"]) == ("depth", "jobs", 15)
    ((at, depth),) = answer["points"]
    assert depth == 3
    assert at.endswith("Z")
    late = client.get("/api/v1/queues/main/rq/mail/history", query_string={"from": "2099-01-01T00:00:00+00:00"})
    assert late.get_json()["points"] == []
    coarse = client.get("/api/v1/queues/main/rq/mail/history?metric=throughput_per_min&step_s=100&to=4000000000")
    assert (coarse.get_json()["step_s"], coarse.get_json()["unit"]) == (105, "jobs/min")
    assert coarse.get_json()["points"] == [[at, 0]]


@pytest.mark.parametrize("query", ["metric=mood", "from=yesterday", "to=nan", "step_s=-1"])
def test_an_invalid_request_for_history_is_an_error(client: FlaskClient, jobs: list[str], query: str) -> None:
    answer = client.get(f"/api/v1/queues/main/rq/mail/history?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[2] in answer.get_json()["error"]["message"]


def test_the_servers_and_their_memory(client: FlaskClient, jobs: list[str]) -> None:
    (source,) = client.get("/api/v1/redis").get_json()["sources"]
    assert source["redis"]["used_memory_bytes"] > 0
    ((_, used),) = source["memory_history"]
    assert used == source["redis"]["used_memory_bytes"]


@pytest.mark.parametrize("body", [{}, {"confirm": ""}, {"confirm": "Mail"}, {"confirm": True}, {"confirm": ["mail"]}])
def test_a_queue_is_not_deleted_without_its_name(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, body: dict[str, object]
) -> None:
    answer = client.post("/api/v1/queues/main/rq/mail/obliterate", json=body, headers=SAME)
    assert answer.status_code == (409 if isinstance(body.get("confirm", ""), str) else 422)
    assert "confirm" in answer.get_json()["error"]["message"]
    assert redis_client.llen("rq:queue:mail") == 3
    assert redis_client.exists(*(f"rq:job:{job}" for job in jobs)) == 3
    assert redis_client.xlen("{queuedeck}:audit") == 0


def test_a_queue_is_deleted_with_its_name(client: FlaskClient, jobs: list[str], redis_client: redis.Redis) -> None:
    answer = client.post("/api/v1/queues/main/rq/mail/obliterate", json={"confirm": "mail"}, headers=SAME)
    assert (answer.status_code, answer.get_json()["outcome"]) == (200, "done")
    assert redis_client.exists("rq:queue:mail", *(f"rq:job:{job}" for job in jobs)) == 0
    (event, *_) = client.get("/api/v1/audit").get_json()["events"]
    assert (event["action"], event["queue"]) == ("obliterate", "mail")
