"""Odd jobs of Sidekiq and RQ through pages and API: in lists, on their pages, in searches, among dead letters."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue, Retry

from dashboard.backends.bounded_reads import stamp_of
from dashboard.demo.embedded import EmbeddedRedis
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.contract.sidekiq_worker import failed_payload, payload
from tests.contract.test_odd_data import FIELDS, VALUES, payload_with
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME
from tests.workloads import rq_jobs

MALFORMED = '{"class":"A","args":[1],"enqueued_at":1446506041.608039.0000455,"jid":"010b032f72dbaac5a3a52832"}'


@pytest.fixture
def client(make_app: MakeApp, redis_client: redis.Redis) -> FlaskClient:
    redis_client.set("stat:processed", 1)
    redis_client.sadd("queues", "work")
    redis_client.lpush("queue:work", payload("good"), MALFORMED)
    odd = [payload_with(field, value) for field in FIELDS for value in VALUES]
    redis_client.lpush("queue:work", *odd)
    for name in ("dead", "retry", "schedule"):
        redis_client.zadd(name, {each: time.time() - n for n, each in enumerate((*odd, failed_payload("good dead")))})
    return make_app().test_client()


def test_every_page_shows_odd_jobs_of_sidekiq(client: FlaskClient) -> None:
    pages = [
        *("/", "/dead", "/search?q=good", "/workers", "/schedules", "/queues/main/sidekiq/work?per_page=200"),
        *(f"/queues/main/sidekiq/*?state={state}&per_page=200" for state in ("dead", "retrying", "scheduled")),
        *("/api/v1/dead", "/api/v1/search?q=good", "/api/v1/search?q=error:no", "/api/v1/schedules"),
        *("/api/v1/overview", "/api/v1/queues/main/sidekiq/*/jobs?state=dead&q=good"),
        "/api/v1/queues/main/sidekiq/work/jobs?state=waiting",
    ]
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200, (page, answer.text[:500])
        answer.text.encode()
    found = client.get("/api/v1/search?q=good").json
    assert found is not None
    assert len([job for job in found["jobs"] if "good" in json.dumps(job)]) >= 1

    def whole() -> dict[str, Any] | None:
        answer = client.get("/api/v1/dead").get_json()
        return answer if answer["scanned"] == answer["total"] else None

    # On a busy machine a look ends by its time, before the last list; the next one begins anew.
    dead = wait_until(whole, what="a look at all dead jobs")
    assert not dead.get("problems"), dead["problems"]


def test_a_malformed_entry_is_deleted_by_api_and_by_page(client: FlaskClient, redis_client: redis.Redis) -> None:
    other = MALFORMED.replace("1446506041", "1446506042")
    redis_client.lpush("queue:work", other)
    before = redis_client.llen("queue:work")
    first, last = (f"/queues/main/sidekiq/work/jobs/raw{stamp_of(raw.encode())}" for raw in (MALFORMED, other))
    answer = client.post(f"/api/v1{first}/delete", headers=SAME, json={})
    assert answer.status_code == 200, answer.text
    assert 'value="delete"' in client.get(last).text
    form = {"action": "delete", "state": "waiting", "stamp": client.get(f"/api/v1{last}").get_json()["stamp"]}
    assert client.post(f"{last}/act", headers=SAME, data=form).status_code == 303
    assert redis_client.llen("queue:work") == before - 2


def test_a_lost_rq_job_is_reported_and_requeued_from_its_page(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    with open_client(server.url) as connection:
        queue = Queue("mails", connection=connection)
        lost, waits = queue.enqueue(rq_jobs.add, 1), queue.enqueue(rq_jobs.add, 2)
        redis_client.lrem("rq:queue:mails", 0, lost.id)
        redis_client.rpush("rq:queue:mails:intermediate", lost.id)
        client = make_app().test_client()
        url = f"/queues/main/rq/mails/jobs/{lost.id}"
        page = client.get(url).text
        assert "intermediate list" in page
        assert 'value="retry"' in page
        assert 'value="retry"' not in client.get(f"/queues/main/rq/mails/jobs/{waits.id}").text
        assert "1 job picked up by a worker but not started yet" in client.get("/queues/main/rq/mails").text
        job = client.get(f"/api/v1{url}").get_json()
        assert (job["state"], "intermediate" in job["problem"]) == ("waiting", True)
        assert job["capabilities"] == ["duplicate", "delete", "retry"]  # a move or a cancel takes it from its list
        form = {"action": "retry", "state": "waiting", "stamp": job["stamp"]}
        assert client.post(f"{url}/act", headers=SAME, data=form).status_code == 303
        assert queue.job_ids == [lost.id, waits.id]
        redis_client.lrem("rq:queue:mails", 0, lost.id)
        assert client.post(f"/api/v1{url}/delete", headers=SAME, json={}).status_code == 200
        assert queue.job_ids == [waits.id]
        assert not redis_client.exists(f"rq:job:{lost.id}")


def test_a_failed_rq_job_with_retries_left_is_retrying_everywhere(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    with open_client(server.url) as connection:
        queue = Queue("mails", connection=connection)
        job = queue.enqueue(rq_jobs.fail, retry=Retry(max=2, interval=600))
        run_waiting_jobs(queue)
        queue.enqueue_in(timedelta(hours=1), rq_jobs.add, 1)
    client = make_app().test_client()
    url = f"/queues/main/rq/mails/jobs/{job.id}"
    page = client.get(url).text
    assert "retrying" in page
    assert "will be retried in" in page
    assert client.get("/queues/main/rq/mails?state=retrying").status_code == 200
    assert client.get(f"/api/v1{url}").get_json()["state"] == "retrying"
    assert [row["id"] for row in client.get("/api/v1/search?q=state:retrying").get_json()["jobs"]] == [job.id]
    assert len(client.get("/api/v1/search?q=state:scheduled").get_json()["jobs"]) == 2
    assert client.post(f"/api/v1{url}/promote", headers=SAME, json={}).status_code == 200
    assert redis_client.lrange("rq:queue:mails", 0, -1) == [job.id.encode()]
