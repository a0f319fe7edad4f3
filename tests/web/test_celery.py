"""What only Celery's jobs show on their pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from dashboard.demo.embedded import EmbeddedRedis
from tests.contract.celery_live import Shop


@pytest.fixture
def shop(client: FlaskClient, server: EmbeddedRedis) -> Iterator[Shop]:
    """A producer on an empty server."""
    del client
    shop = Shop(server.url)
    yield shop
    shop.close()


def test_a_queued_job_that_is_not_due_yet_says_so(client: FlaskClient, shop: Shop) -> None:
    later, now = shop.send("later", countdown=3590), shop.send("now")
    page = client.get("/queues/main/celery/alpha?state=waiting").text
    rows = {task: row for row in page.split("<tr ")[1:] for task in (later, now) if task in row}
    assert "due <time" in rows[later]
    assert "due <time" not in rows[now]
    counts = client.get("/api/v1/queues/main/celery/alpha").json
    assert counts is not None
    assert counts["counts"]["waiting"] == 2
    assert "It is scheduled to start in 59 m" in client.get(f"/queues/main/celery/alpha/jobs/{later}").text
    assert "It is not to start" not in client.get(f"/queues/main/celery/alpha/jobs/{now}").text


def test_a_revoked_queued_job_says_so_wherever_it_is_listed(client: FlaskClient, shop: Shop) -> None:
    revoked, other = shop.send("revoked"), shop.send("other")
    shop.marks.set(f"celery-task-meta-{revoked}", f'{{"status": "REVOKED", "result": null, "task_id": "{revoked}"}}')
    page = client.get("/queues/main/celery/alpha?state=waiting").text
    rows = {task: row for row in page.split("<tr ")[1:] for task in (revoked, other) if task in row}
    assert {task: "queued, revoked" in row for task, row in rows.items()} == {revoked: True, other: False}
    found = client.get("/search?q=shop.mark+state:waiting").text
    assert found.count("queued, revoked") == 1
    wanted = {(revoked, "waiting", "queued, revoked"), (other, "waiting", "queued")}
    for url, words in (
        ("/api/v1/queues/main/celery/alpha/jobs?state=waiting", wanted),
        ("/api/v1/search?q=shop.mark+state:waiting", wanted),
        ("/api/v1/search?q=shop.mark+state:queued", wanted),
    ):
        answer = client.get(url).json
        assert answer is not None
        assert {(job["id"], job["state"], job["native_state"]) for job in answer["jobs"]} == words, url
