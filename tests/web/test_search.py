"""While the first search for queues goes on, pages and the API say so, and how far it has come."""

from __future__ import annotations

import html

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from tests.web.conftest import MakeApp

KEYS = 8000


@pytest.fixture
def searching(make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A dashboard whose only sample so far looked at a thousand of 8,000 keys, and found the queue of RQ."""
    monkeypatch.setattr("dashboard.sampling.queue_search.FIRST_BUDGET", (1, 1e9))
    redis_client.mset({f"key:{number}": "" for number in range(KEYS)})
    Queue("mail", connection=redis_client).enqueue("app.mail.send")
    return make_app(sample_interval_s=300).test_client()


def test_the_overview_says_how_far_the_search_has_come(searching: FlaskClient) -> None:
    text = html.unescape(searching.get("/").text).replace("\u202f", " ")
    assert "still scanning, 10%" in text  # 1 of 8 for BullMQ and Celery, 1 of 16 for Sidekiq, about
    assert "mail" in text


def test_the_api_does_too(searching: FlaskClient) -> None:
    (source,) = searching.get("/api/v1/overview").get_json()["sources"]
    assert source["discovered"] is False
    assert source["search_progress"] == pytest.approx(0.1, abs=0.01)


def test_a_queue_that_was_not_found_yet_may_be_there(searching: FlaskClient) -> None:
    answer = searching.get("/api/v1/queues/main/bullmq/orders")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["hint"].replace("\u202f", " ") == (
        "Still scanning this Redis for queues, 10% done; reload in a moment."
    )


def test_nothing_is_said_once_all_was_seen(client: FlaskClient) -> None:
    assert "searching" not in client.get("/").text
    assert client.get("/api/v1/overview").get_json()["sources"][0]["search_progress"] is None
