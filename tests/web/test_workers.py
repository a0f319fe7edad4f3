"""Workers, schedules and search: pages and API, with the real RQ."""

from __future__ import annotations

import re

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue, SimpleWorker

from dashboard.demo.embedded import EmbeddedRedis
from tests.conftest import USUAL, start_server
from tests.waiting import wait_until
from tests.web.conftest import MakeApp


def test_empty_pages_explain_what_will_appear(client: FlaskClient) -> None:
    assert "No workers found" in client.get("/workers").text
    assert "No schedules" in client.get("/schedules").text
    assert "All terms must match" in client.get("/search").text
    for path in ("/api/v1/workers", "/api/v1/schedules"):
        assert client.get(path).get_json()["total"] == 0


def test_a_worker_is_listed_with_its_queues(client: FlaskClient, redis_client: redis.Redis, jobs: list[str]) -> None:
    worker = SimpleWorker([Queue("mail", connection=redis_client)], connection=redis_client, name="<b>night-1")
    worker.register_birth()
    try:
        text = client.get("/workers").text
        assert "&lt;b&gt;night-1" in text
        (row,) = client.get("/api/v1/workers?backend=rq").get_json()["workers"]
        assert (row["id"], row["backend"], row["queues"]) == ("<b>night-1", "rq", ["mail"])
        assert client.get("/api/v1/workers?backend=bullmq").get_json()["workers"] == []
        assert "No worker matches" in client.get("/workers?q=elsewhere").text
        filtered = client.get("/workers?q=night").text
        assert 'name="q" value="night"' in filtered
        assert "&lt;b&gt;night-1" in filtered
    finally:
        worker.register_death()


def test_fragments_answer_304_while_nothing_changes(client: FlaskClient, jobs: list[str]) -> None:
    first = client.get("/workers/_workers", headers={"HX-Request": "true"})
    assert first.status_code == 200
    again = client.get("/workers/_workers", headers={"HX-Request": "true", "HX-PTag": first.headers["HX-PTag"]})
    assert again.status_code == 304


def test_all_viewers_share_one_read(make_app: MakeApp, redis_client: redis.Redis, jobs: list[str]) -> None:
    client = make_app(sample_interval_s=60).test_client()
    client.get("/workers")
    before = redis_client.info("commandstats")["cmdstat_sscan"]["calls"]
    for _ in range(20):
        client.get("/workers/_workers")
    assert redis_client.info("commandstats")["cmdstat_sscan"]["calls"] == before


def test_jobs_are_found_by_id_and_text(client: FlaskClient, jobs: list[str]) -> None:
    for query in (jobs[1], f"id:{jobs[1]}", "user1@example.com", "name:send user1", "queue:ma* state:waiting user1"):
        answer = client.get("/api/v1/search", query_string={"q": query}).get_json()
        assert [job["id"] for job in answer["jobs"]] == [jobs[1]], query
        assert f"/jobs/{jobs[1]}" in client.get("/search", query_string={"q": query}).text
    answer = client.get("/api/v1/search?q=nowhere").get_json()
    assert (answer["jobs"], answer["scanned"], answer["total"], answer["truncated"]) == ([], 3, 3, False)
    assert "hunter2" not in client.get("/search?q=password").text


def test_the_jobs_of_a_queue_can_be_searched(client: FlaskClient, jobs: list[str]) -> None:
    answer = client.get("/api/v1/queues/main/rq/mail/jobs?state=waiting&q=user2").get_json()
    assert [job["id"] for job in answer["jobs"]] == [jobs[2]]
    assert (answer["total"], answer["scanned"], answer["truncated"]) == (1, 3, False)


@pytest.mark.parametrize("query", ["age:old", "<script>alert(1)</script>", '"', "-", "::", "x" * 2000, "\udcff"])
def test_odd_search_queries_are_harmless(client: FlaskClient, jobs: list[str], query: str) -> None:
    response = client.get("/search", query_string={"q": query.encode("utf-8", "surrogateescape")})
    assert response.status_code == 200
    assert "<script>alert" not in response.text


def test_a_waiting_job_explains_why_it_is_not_running(client: FlaskClient, jobs: list[str]) -> None:
    text = client.get(f"/queues/main/rq/mail/jobs/{jobs[0]}").text
    assert "Why isn't this running?" in text
    assert "No worker processes this queue." in text
    assert re.search(r"It is next in the queue", text)


def test_problems_of_the_shared_entry_name_the_library(
    client: FlaskClient, redis_client: redis.Redis, jobs: list[str]
) -> None:
    redis_client.set("stat:processed", 1)
    redis_client.zadd("retry", {'{"jid":"1","class":"A","args":[]}': 1000})
    text = client.get("/").text
    assert "<strong>All Sidekiq queues</strong> scheduled jobs are" in text
    assert "<strong>*</strong>" not in text
    assert "All Sidekiq queues</a>" in text
    assert "<span>Scheduled jobs are" in client.get("/queues/main/sidekiq/*?state=retrying").text
    gone = client.get("/queues/main/sidekiq/*/jobs/gone")
    assert gone.status_code == 404
    assert "in any queue." in gone.text


def test_seen_queues_and_jobs_are_suggested(make_app: MakeApp, redis_client: redis.Redis, jobs: list[str]) -> None:
    del jobs
    Queue("slow", connection=redis_client).enqueue("app.pdf.render", "a.pdf")
    client = make_app().test_client()

    def suggested() -> set[str]:
        return set(re.findall(r'<option value="([^"]*)">', client.get("/search").text))

    assert suggested() == {"queue:mail", "queue:slow"}
    client.get("/queues/main/rq/slow")
    assert suggested() == {"queue:mail", "queue:slow", "name:app.pdf.render"}
    client.get("/search?q=nowhere")
    assert suggested() == {"queue:mail", "queue:slow", "name:app.pdf.render", "name:app.mail.send"}


@pytest.mark.usefixtures("redis_client")
def test_of_a_redis_that_is_down_nothing_is_called_empty(make_app: MakeApp, server: EmbeddedRedis) -> None:
    other = start_server(USUAL)
    try:
        sources = [{"name": "main", "url": server.url}, {"name": "beta", "url": other.url}]
        client = make_app(sources=sources).test_client()
        with redis.Redis.from_url(other.url) as beta:
            Queue("mail", connection=beta).enqueue("app.send")
        wait_until(lambda: client.get("/api/v1/queues").get_json()["total"], what="the queue")
        assert "No workers found" in client.get("/workers").text
        assert "<h2>No schedules</h2>" in client.get("/schedules").text
    finally:
        other.close()
    page = wait_until(
        lambda: "beta</strong> cannot be read" in (text := client.get("/workers").text) and text, what="the outage"
    )
    assert "No workers where they can be read" in page
    assert "No workers found" not in page
    page = client.get("/schedules").text
    assert "beta</strong> cannot be read" in page
    assert "<h2>No schedules where they can be read</h2>" in page
